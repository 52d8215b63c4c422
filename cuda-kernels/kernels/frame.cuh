// Kashin's frame: where the values of a group stand among its coefficients (FORMAT.md, section 7.1).
#pragma once
#include "common.cuh"

// The value at a position of the group, or n where there is none.
DEVICE u32 value_at(const Plan &p, u32 position) {
  if (p.n_coefficients == p.n_values) return position;
  const u64 n = p.n_values, slots = p.n_coefficients;
  const u64 i = (position * n + slots - 1) / slots;
  return i < n && i * slots / n == position ? (u32)i : p.n_values;
}

DEVICE u32 position_of(const Plan &p, u32 value) {
  if (p.n_coefficients == p.n_values) return value;
  return (u32)((u64)value * p.n_coefficients / p.n_values);
}

// The first value that stands at a position or behind it; n if there is none.
DEVICE u32 first_value_from(const Plan &p, u32 position) {
  const u64 i = ((u64)position * p.n_values + p.n_coefficients - 1) / p.n_coefficients;
  return i < p.n_values ? (u32)i : p.n_values;
}

// The sum of squares of a run of a power of two, up to 256, of which the first n_there are there and
// the others count as 0: a tree over index bits, neighbours first, in f64. The sums of finished parts
// of 1, 2, 4, ... squares carry as the bits of a counter do.
DEVICE double squares_of_run(const float *x, u32 n_there, u32 run) {
  double parts[9], sum = 0.0;
#pragma unroll
  for (int k = 0; k < 9; ++k) parts[k] = 0.0;
#pragma unroll 1
  for (u32 i = 0; i < run; ++i) {
    const double v = i < n_there ? (double)x[i] : 0.0;
    sum = __dmul_rn(v, v);
    bool carries = true;
#pragma unroll
    for (int k = 0; k < 9; ++k) {
      const bool is_set = i >> k & 1;
      if (carries && is_set) sum = __dadd_rn(parts[k], sum);
      if (carries && !is_set) parts[k] = sum;
      carries = carries && is_set;
    }
  }
  return sum;  // the last one carried through all bits
}

DEVICE float root(double x) { return __double2float_rn(__dsqrt_rn(x)); }
