// Every pipeline that hadamard.cu does not cover, stage by stage through coefficients in memory:
// no rotation, units of any length with their window, Kashin's iteration, quantizer blocks of
// another size, selected coefficients, coefficients that stay f32.
#include "common.cuh"
#include "frame.cuh"
#include "uniform.cuh"

// ---- The units of a group (FORMAT.md, section 7.1) ------------------------------------------

struct Unit {
  u32 number, start, length, log2;  // 2^log2 values are rotated: b of the format
  u64 signs, window_signs;
};

DEVICE Unit unit_of(const Plan &p, u32 number, u64 group) {
  Unit unit;
  const u32 n_whole = p.n_coefficients >> p.block_log2;
  const u32 n_units = n_whole ? n_whole : 1;
  unit.number = number;
  unit.start = number << p.block_log2;
  unit.length = number + 1 < n_units ? 1u << p.block_log2 : p.n_coefficients - unit.start;
  const u32 largest = 31u - __clz(unit.length);
  unit.log2 = largest < p.block_log2 ? largest : p.block_log2;
  unit.signs = block_key(p.signs, group, number);
  unit.window_signs = block_key(p.window_signs, group, number);
  return unit;
}

// The normalized transform of `stage`, stages in ascending order, by all threads.
DEVICE void transform_staged(float *stage, u32 log2) {
  for (u32 k = 0; k < log2; ++k) {
    __syncthreads();
    for (u32 i = threadIdx.x; i < 1u << log2 >> 1; i += blockDim.x) {
      const u32 low = (i >> k << (k + 1)) | (i & ((1u << k) - 1u)), high = low | (1u << k);
      const float a = stage[low], b = stage[high];
      stage[low] = __fadd_rn(a, b);
      stage[high] = __fsub_rn(a, b);
    }
  }
  __syncthreads();
}

DEVICE float signed_by(float x, u64 key, u32 i) { return flip(x, (u32)(word(key, i / 64) >> (i % 64))); }

// A signed rotation in place, or its inverse; `stage` holds 2^log2 floats.
DEVICE void rotate(float *x, u32 log2, u64 key, float *stage) {
  for (u32 i = threadIdx.x; i < 1u << log2; i += blockDim.x) stage[i] = signed_by(x[i], key, i);
  transform_staged(stage, log2);
  const float norm = norm_of(log2);
  for (u32 i = threadIdx.x; i < 1u << log2; i += blockDim.x) x[i] = __fmul_rn(stage[i], norm);
  __syncthreads();
}

DEVICE void unrotate(float *x, u32 log2, u64 key, float *stage) {
  for (u32 i = threadIdx.x; i < 1u << log2; i += blockDim.x) stage[i] = x[i];
  transform_staged(stage, log2);
  const float norm = norm_of(log2);
  for (u32 i = threadIdx.x; i < 1u << log2; i += blockDim.x) {
    x[i] = signed_by(__fmul_rn(stage[i], norm), key, i);
  }
  __syncthreads();
}

DEVICE void rotate_unit(const Unit &unit, float *x, float *stage) {
  const u32 b = 1u << unit.log2;
  rotate(x, unit.log2, unit.signs, stage);
  if (unit.length > b) rotate(x + unit.length - b, unit.log2, unit.window_signs, stage);
}

DEVICE void unrotate_unit(const Unit &unit, float *x, float *stage) {
  const u32 b = 1u << unit.log2;
  if (unit.length > b) unrotate(x + unit.length - b, unit.log2, unit.window_signs, stage);
  unrotate(x, unit.log2, unit.signs, stage);
}

// ---- Forward ----------------------------------------------------------------------------------

// The sum over the threads of a block, in f64, by a tree over the bits of their number.
DEVICE double sum_of_threads(double x, double *sums) {
  sums[threadIdx.x] = x;
  for (u32 h = 1; h < blockDim.x; h <<= 1) {
    __syncthreads();
    if (threadIdx.x % (2 * h) == 0) {
      sums[threadIdx.x] = __dadd_rn(sums[threadIdx.x], sums[threadIdx.x + h]);
    }
  }
  __syncthreads();
  const double sum = sums[0];
  __syncthreads();
  return sum;
}

// The sum of squares of a unit; each thread takes an aligned run whose length is a power of two.
DEVICE double sum_of_squares(const float *x, u32 length, double *sums) {
  u32 run = 1;
  while (blockDim.x * run < length) run *= 2;
  const u32 start = threadIdx.x * run;
  const u32 n_there = start < length ? length - start : 0;
  return sum_of_threads(squares_of_run(x + start, n_there, run), sums);
}

// Kashin's iteration on one unit. `residual` holds the values at their positions and zeros, and is
// used up; `rotated` is scratch of the same length.
DEVICE void represent(const Plan &p, const Unit &unit, float *residual, float *rotated,
                      float *coefficients, u32 n_inputs, float *stage, double *sums) {
  const u32 length = unit.length;
  const double energy = sum_of_squares(residual, length, sums);
  float level = root(__ddiv_rn(energy, __dmul_rn((double)p.delta, (double)n_inputs)));
  for (u32 i = threadIdx.x; i < length; i += blockDim.x) coefficients[i] = 0.0f;
  for (u32 pass = 1; pass <= p.iterations; ++pass) {
    const bool is_last = pass == p.iterations;
    for (u32 i = threadIdx.x; i < length; i += blockDim.x) rotated[i] = residual[i];
    __syncthreads();
    rotate_unit(unit, rotated, stage);
    for (u32 i = threadIdx.x; i < length; i += blockDim.x) {
      if (!is_last || p.clip) rotated[i] = clamp_to(rotated[i], level);
      coefficients[i] = __fadd_rn(coefficients[i], rotated[i]);
    }
    __syncthreads();
    if (is_last) break;
    unrotate_unit(unit, rotated, stage);
    for (u32 i = threadIdx.x; i < length; i += blockDim.x) {
      if (value_at(p, unit.start + i) < p.n_values) residual[i] = __fsub_rn(residual[i], rotated[i]);
    }
    __syncthreads();
    level = __fmul_rn(level, p.eta);
  }
  if (!p.clip) return;
  const double norm = sum_of_squares(coefficients, length, sums);
  const float gain = norm > 0.0 ? root(__ddiv_rn(energy, norm)) : 1.0f;
  for (u32 i = threadIdx.x; i < length; i += blockDim.x) {
    coefficients[i] = __fmul_rn(coefficients[i], gain);
  }
}

// Coefficients of unit first_unit + blockIdx.x of group blockIdx.y. `scratch` has two floats for each
// coefficient where the plan has iterations. Without rotation the values are the coefficients.
extern "C" __global__ void __launch_bounds__(256)
encode_units(const Plan p, const void *x, const int *exponents, float *coefficients, float *scratch,
             u32 *peaks, u32 first_unit, u32 rotates) {
  SHARED_MEMORY(memory);
  double *sums = (double *)memory;
  float *stage = (float *)(sums + 256);
  const u32 group = blockIdx.y;
  Unit unit = unit_of(p, first_unit + blockIdx.x, p.first_group + group);
  const u64 at = (u64)group * p.coefficient_stride + unit.start;
  float *residual = p.iterations ? scratch + 2 * ((u64)group * p.coefficient_stride) + unit.start
                                 : coefficients + at;
  const int exponent = exponents[group];
  u32 peak = 0, n_inputs = 0;
  for (u32 i = threadIdx.x; i < unit.length; i += blockDim.x) {
    const u32 value = value_at(p, unit.start + i);
    float v = 0.0f;
    if (value < p.n_values) {
      v = load_element(x, (u64)group * p.n_values + value, p.element);
      ++n_inputs;
    }
    if (exponent) v = scale_by(v, -exponent);
    peak = max(peak, magnitude_bits(v));
    residual[i] = v;
  }
  peak = peak_of_lanes(peak);
  if (threadIdx.x % 32 == 0) atomicMax(peaks + group, peak);
  __syncthreads();
  if (p.iterations) {
    n_inputs = (u32)sum_of_threads((double)n_inputs, sums);
    represent(p, unit, residual, residual + p.coefficient_stride, coefficients + at, n_inputs, stage, sums);
  } else if (rotates) {
    rotate_unit(unit, residual, stage);
  }
}

// ---- The quantizer, over coded coefficients: all, or those at `positions` --------------------

DEVICE const float *coded_of(const Plan &p, const float *coefficients, u32 group) {
  return coefficients + (u64)group * p.coefficient_stride;
}

DEVICE u32 place_of(const Plan &p, const u32 *positions, u32 group, u32 i) {
  return positions ? positions[(u64)group * p.n_coded + i] : i;
}

DEVICE u32 n_scales(const Plan &p) {
  const u32 n_whole = p.n_coded >> p.scale_log2;
  return n_whole ? n_whole : 1;
}

// Scale of block first_block + blockIdx.x of group blockIdx.y, and what quantizing needs of it.
extern "C" __global__ void __launch_bounds__(256)
encode_scales(const Plan p, const float *coefficients, const u32 *positions, u8 *payloads,
              float2 *grids, u32 first_block) {
  SHARED_MEMORY(memory);
  float2 *ranges = (float2 *)memory;
  const u32 group = blockIdx.y, block = first_block + blockIdx.x, count = n_scales(p);
  const u32 begin = block << p.scale_log2;
  const u32 end = block + 1 < count ? begin + (1u << p.scale_log2) : p.n_coded;
  const float *x = coded_of(p, coefficients, group);
  float lo = x[place_of(p, positions, group, begin)], hi = lo;
  for (u32 i = begin + threadIdx.x; i < end; i += blockDim.x) {
    const float v = x[place_of(p, positions, group, i)];
    lo = fminf(lo, v);
    hi = fmaxf(hi, v);
  }
  range_of_lanes<32>(lo, hi);
  if (threadIdx.x % 32 == 0) {
    ranges[threadIdx.x / 32].x = lo;
    ranges[threadIdx.x / 32].y = hi;
  }
  __syncthreads();
  if (threadIdx.x) return;
  for (u32 w = 1; w < blockDim.x / 32; ++w) {
    lo = fminf(lo, ranges[w].x);
    hi = fmaxf(hi, ranges[w].y);
  }
  const Grid grid = grid_of(p, lo, hi);
  float2 scale, inverse;
  scale.x = inverse.x = grid.lo;
  scale.y = grid.step, inverse.y = grid.inverse;
  ((float2 *)(payloads + (u64)group * p.payload_stride))[block] = scale;
  grids[(u64)group * count + block] = inverse;
}

// Codes from first_code on, a multiple of 32: each thread packs 32 neighbours, which share a block.
// Without a quantizer, the coefficients themselves.
extern "C" __global__ void __launch_bounds__(256)
encode_codes(const Plan p, const float *coefficients, const u32 *positions, const float2 *grids,
             u8 *payloads, u32 first_code) {
  const u32 group = blockIdx.y;
  const u32 begin = first_code + (blockIdx.x * blockDim.x + threadIdx.x) * 32;
  if (begin >= p.n_coded) return;
  const u32 end = p.n_coded - begin < 32 ? p.n_coded : begin + 32;
  const float *x = coded_of(p, coefficients, group);
  u32 *out = (u32 *)(payloads + (u64)group * p.payload_stride + p.codes_at);
  if (p.q == 0) {
    for (u32 i = begin; i < end; ++i) {
      ((float *)out)[i] = x[place_of(p, positions, group, i)];
    }
    return;
  }
  const u32 count = n_scales(p), whole = begin >> p.scale_log2;
  const u32 block = whole < count ? whole : count - 1;
  const Draws draws(block_key(p.rounding, p.first_group + group, block));
  Grid grid;
  grid.lo = grids[(u64)group * count + block].x;
  grid.inverse = grids[(u64)group * count + block].y;
  grid.top = __fmul_rn(top_code(p), scale_of(p));
  grid.step = 0.0f;
  out += begin / 32 * p.q;
  u64 bits = 0;
  u32 n_bits = 0, word = 0;
  for (u32 i = begin; i < end; ++i) {
    const u32 at = i - (block << p.scale_log2);
    const float v = x[place_of(p, positions, group, i)];
    if (at % 2 == 0) word = draws.word(draws.counter(at / 2));
    const u32 half = at % 2 ? odd_half(word) : even_half(word);
    bits |= (u64)(p.nearest ? nearest_code(grid, v) : drawn_code(grid, v, half)) << n_bits;
    n_bits += p.q;
    if (n_bits >= 32) {
      *out++ = (u32)bits;
      bits >>= 32;
      n_bits -= 32;
    }
  }
  if (n_bits) *out = (u32)bits;
}

// ---- Back -------------------------------------------------------------------------------------

// Coded coefficients from first_code on to their places; the others are 0 already.
extern "C" __global__ void __launch_bounds__(256)
decode_codes(const Plan p, const u8 *payloads, const u32 *positions, float *coefficients, u32 first_code) {
  const u32 group = blockIdx.y, i = first_code + blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= p.n_coded) return;
  const u8 *payload = payloads + (u64)group * p.payload_stride;
  const u32 *codes = (const u32 *)(payload + p.codes_at);
  float v;
  if (p.q == 0) {
    v = ((const float *)codes)[i];
  } else {
    const u32 count = n_scales(p), whole = i >> p.scale_log2;
    const float2 scale = ((const float2 *)payload)[whole < count ? whole : count - 1];
    v = value_of(scale.x, scale.y, code_at(codes, i, p.q));
  }
  if (i < p.n_gained) v = __fmul_rn(v, p.gain);
  coefficients[(u64)group * p.coefficient_stride + place_of(p, positions, group, i)] = v;
}

// Turns unit first_unit + blockIdx.x of group blockIdx.y back, in place.
extern "C" __global__ void __launch_bounds__(256)
decode_units(const Plan p, float *coefficients, u32 first_unit) {
  SHARED_MEMORY(memory);
  const u32 group = blockIdx.y;
  const Unit unit = unit_of(p, first_unit + blockIdx.x, p.first_group + group);
  unrotate_unit(unit, coefficients + (u64)group * p.coefficient_stride + unit.start, (float *)memory);
}

// Values from first_value on to their places: scaled, and stored or added.
extern "C" __global__ void __launch_bounds__(256)
put_values(const Plan p, const float *coefficients, const int *exponents, void *values, u32 first_value) {
  const u32 group = blockIdx.y, i = first_value + blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= p.n_values) return;
  float v = coefficients[(u64)group * p.coefficient_stride + position_of(p, i)];
  if (exponents[group]) v = scale_up(v, exponents[group]);
  put_element(p, values, (u64)group * p.n_values + i, v);
}
