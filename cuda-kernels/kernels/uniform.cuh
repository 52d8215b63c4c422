// The uniform quantizer: range and grid of a block, rounding, packing (FORMAT.md, sections 7 and 9).
#pragma once
#include "common.cuh"

struct Grid {
  float lo, range, inverse, top;
};

DEVICE float top_code(u32 q) { return (float)((1u << q) - 1u); }

// `lo` and `hi` are the smallest and largest coefficient, zeros of either sign.
DEVICE Grid grid_of(float lo, float hi, u32 q) {
  Grid grid;
  lo = __fadd_rn(lo, 0.0f);  // -0 counts as +0
  const float range = __fsub_rn(__fadd_rn(hi, 0.0f), lo);
  const bool is_constant = range < power_of_two(-100);
  grid.lo = lo;
  grid.top = top_code(q);
  grid.range = is_constant ? 0.0f : range;
  grid.inverse = is_constant ? 0.0f : __fdiv_rn(grid.top, range);
  return grid;
}

DEVICE float step_of(const Grid &grid) { return __fdiv_rn(grid.range, grid.top); }

// Position on the grid, 0 to top; NaN, which only groups that are refused hold, counts as top.
DEVICE float on_grid(const Grid &grid, float x) {
  return fminf(__fmul_rn(__fsub_rn(x, grid.lo), grid.inverse), grid.top);
}

// Between 2^23 and 2^24 floats are the integers, so a sum rounds to one, and its lowest bits are that
// integer: no conversion is needed, which would take a slower unit. The bits above a code stay until
// it is packed.
const u32 CODE_BIAS = 0x4b000000u;  // bits of 2^23

DEVICE u32 code_of(u32 biased) { return biased & 0xffffu; }

DEVICE u32 round_nearest(float t) { return __float_as_uint(__fadd_rn(t, __uint_as_float(CODE_BIAS))); }

// Up with the probability of the fraction, that is where draw * 2^-32 is less than it; `draw` is one
// of 32 bits, of which 24 are set or not. The product is exact, so the sign of the fused difference
// is that of the exact one: the one use of fused arithmetic. Biased, as is the other.
DEVICE u32 round_by(float t, u32 draw) {
  const float whole = __fadd_rz(t, __uint_as_float(CODE_BIAS));
  const float fraction = __fsub_rn(t, __fsub_rn(whole, __uint_as_float(CODE_BIAS)));  // exact
  const float excess = __fmaf_rn((float)draw, 2.3283064365386963e-10f, -fraction);
  return __float_as_uint(whole) + (__float_as_uint(excess) >> 31);
}

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
