// The uniform quantizer: range and grid of a block, rounding, packing (FORMAT.md, sections 7 and 9).
#pragma once
#include "common.cuh"

// What codes are made by. Where draws decide, positions on the grid are in fixed point, with FRACTION bits
// behind the point, and `inverse` and `top` are times 2^FRACTION, both products exact.
struct Grid {
  float lo, step, inverse, top;
};

const int FRACTION = 15;

DEVICE float scale_of(const Plan &p) { return p.nearest ? 1.0f : power_of_two(FRACTION); }

DEVICE float top_code(const Plan &p) { return (float)((1u << p.q) - 1u); }

// A grid that has zero as a level, from one of the same range that need not: the level whose place is
// nearest, from which the longer side decides the step.
DEVICE Grid through_zero(Grid grid, float lo, float hi) {
  if (grid.step == 0.0f || lo > 0.0f || hi < 0.0f) return grid;
  const float below = fminf(rintf(__fmul_rn(-lo, grid.inverse)), grid.top);
  const float above = __fsub_rn(grid.top, below);
  const float step_below = below > 0.0f ? __fdiv_rn(-lo, below) : 0.0f;
  const float step_above = above > 0.0f ? __fdiv_rn(hi, above) : 0.0f;
  grid.step = fmaxf(step_below, step_above);
  grid.lo = -__fmul_rn(below, grid.step);  // as decoding multiplies, so that its sum is zero
  grid.inverse = __fdiv_rn(1.0f, grid.step);
  return grid;
}

// `lo` and `hi` are the smallest and largest coefficient, zeros of either sign.
DEVICE Grid grid_of(const Plan &p, float lo, float hi) {
  Grid grid;
  lo = __fadd_rn(lo, 0.0f);  // -0 counts as +0
  hi = __fadd_rn(hi, 0.0f);
  const float range = __fsub_rn(hi, lo);
  const bool is_constant = range < power_of_two(-96);
  grid.lo = lo;
  grid.top = top_code(p);
  grid.step = is_constant ? 0.0f : __fdiv_rn(range, grid.top);
  grid.inverse = is_constant ? 0.0f : __fdiv_rn(grid.top, range);
  if (p.nearest) return through_zero(grid, lo, hi);
  grid.inverse = __fmul_rn(grid.inverse, scale_of(p));
  grid.top = __fmul_rn(grid.top, scale_of(p));
  return grid;
}

// The position of a value, at most top; NaN, which only groups that are refused hold, counts as that.
DEVICE float on_grid(const Grid &grid, float x) {
  return fminf(__fmul_rn(__fsub_rn(x, grid.lo), grid.inverse), grid.top);
}

// Below zero lie values that a grid through zero leaves out.
DEVICE u32 nearest_code(const Grid &grid, float x) {
  return (u32)__float2int_rn(fmaxf(on_grid(grid, x), 0.0f));
}

// The sum with a draw, in integers and exact, carries into the code with a probability that is the
// fraction itself. A draw is the upper bits of a half word: with the lowest bit, which carries nothing,
// both are taken twice.
DEVICE u32 drawn_code(const Grid &grid, float x, u32 half_word) {
  return (2 * (u32)__float2int_rn(on_grid(grid, x)) + half_word) >> (FRACTION + 1);
}

// The half words of an even index and the next one.
DEVICE u32 even_half(u32 word) { return word & 0xffffu; }
DEVICE u32 odd_half(u32 word) { return word >> 16; }

// Smallest and largest over the lanes of a warp that share all but the `WIDTH` lowest numbers.
template <int WIDTH> DEVICE void range_of_lanes(float &lo, float &hi) {
#pragma unroll
  for (int m = 1; m < WIDTH; m <<= 1) {
    lo = fminf(lo, __shfl_xor_sync(ALL_LANES, lo, m));
    hi = fmaxf(hi, __shfl_xor_sync(ALL_LANES, hi, m));
  }
}

DEVICE u32 peak_of_lanes(u32 peak) {
#pragma unroll
  for (int m = 1; m < 32; m <<= 1) {
    const u32 other = __shfl_xor_sync(ALL_LANES, peak, m);
    peak = other > peak ? other : peak;
  }
  return peak;
}

// Code i of a bit string of q-bit codes; reads the words that hold it and no other.
DEVICE u32 code_at(const u32 *codes, u64 i, u32 q) {
  const u64 bit = i * q;
  const u32 shift = (u32)bit & 31u;
  u64 bits = codes[bit >> 5];
  if (shift + q > 32) bits |= (u64)codes[(bit >> 5) + 1] << 32;
  return (u32)(bits >> shift) & ((1u << q) - 1u);
}

// lo + code * step, each rounded.
DEVICE float value_of(float lo, float step, u32 code) {
  return __fadd_rn(lo, __fmul_rn((float)(int)code, step));
}
