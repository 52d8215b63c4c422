// Kashin's representation of whole blocks, all iterations on the chip: the block in work and what was
// taken of it stay in registers, the residual in shared memory. Blocks of 2^15, of which neither could
// hold its part, and units of other lengths go through general.cu.
#include "block.cuh"
#include "frame.cuh"

// The values that stand at 32 positions from `from` on, and zeros, to a row of shared memory; a bit of
// the result is set where one stands. Positions follow each other as quotients of i * N / n do,
// without a division.
DEVICE u32 load_positions(const Plan &p, float *row, const void *values, u64 group, u32 from, int exponent) {
  const u32 n = p.n_values, more = p.n_coefficients - n;
  u32 i = first_value_from(p, from);
  u32 position = position_of(p, i), rest = (u32)((u64)i * p.n_coefficients % n), taken = 0;
#pragma unroll 1
  for (u32 r = 0; r < REGISTERS; ++r) {
    row[r] = 0.0f;
    if (i >= n || position != from + r) continue;
    const float v = load_element(values, group * n + i, p.element);
    row[r] = exponent ? scale_by(v, -exponent) : v;
    taken |= 1u << r;
    ++i;
    ++position;
    rest += more;
    if (rest >= n) {
      rest -= n;
      ++position;
    }
  }
  return taken;
}

// The sum of squares of a block, of which each thread holds 32 neighbours in a row of shared memory.
// Every thread of the block gets it. `sums` has room for a number for each warp.
template <int K> DEVICE double sum_of_squares(const float *row, double *sums) {
  typedef Tile<K> T;
  const int lanes = T::THREADS < 32 ? T::THREADS : 32, warps = T::THREADS / lanes;
  double sum = squares_of_run(row, REGISTERS, REGISTERS);
#pragma unroll
  for (int m = 1; m < lanes; m <<= 1) sum = __dadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, m));
  if (warps == 1) return sum;
  const u32 warp = threadIdx.x / 32;
  __syncthreads();
  if (threadIdx.x % 32 == 0) sums[warp] = sum;
  for (int h = 1; h < warps; h <<= 1) {
    __syncthreads();
    if (threadIdx.x % 32 == 0 && warp % (2 * h) == 0) sums[warp] = __dadd_rn(sums[warp], sums[warp + h]);
  }
  __syncthreads();
  const double whole = sums[T::own_block() * warps];
  __syncthreads();  // before others write where it stands
  return whole;
}

// What is left of a residual, of which v has been taken, where there is a value; and v of the next step.
DEVICE float left_of(float x, float &v, u32 signs, u32 taken, int r) {
  if (taken >> r & 1u) x = __fsub_rn(x, flip(v, signs >> r));
  v = flip(x, signs >> r);
  return x;
}

// Clips the rotated residual at a level, keeps it, subtracts what it stands for, and so on; the last
// pass takes all that is left. A step rotates forward and, but for the last, back.
template <int K>
DEVICE void represent(const Plan &p, const Shared<K> &shared, float (&taken_up)[REGISTERS],
                      float *stage, float *residual, u32 n_inputs) {
  typedef Tile<K> T;
  const u32 t = T::own_thread();
  const float norm = norm_of(K);
  double *sums = (double *)shared.ranges;
  // Read again in each step: kept as 32 flags each, they would take the registers of the values.
  const u32 *own_signs = (const u32 *)shared.signs + threadIdx.x, *own_taken = shared.taken + threadIdx.x;
  const double energy = sum_of_squares<K>(residual, sums);
  double *kept_energy = sums + 16 + T::own_block();
  if (t == 0) *kept_energy = energy;
  float level = root(__ddiv_rn(energy, __dmul_rn((double)p.delta, (double)n_inputs)));
  float v[REGISTERS];
#pragma unroll
  for (int r = 0; r < REGISTERS; ++r) {
    taken_up[r] = 0.0f;
    v[r] = flip(residual[r], *own_signs >> r);
  }
#pragma unroll 1
  for (u32 step = 1;; ++step) {
    const bool is_last = step == p.iterations;
    T::transform(v, stage, t);
#pragma unroll
    for (int r = 0; r < REGISTERS; ++r) {
      v[r] = __fmul_rn(v[r], norm);
      if (!is_last || p.clip) v[r] = clamp_to(v[r], level);
      taken_up[r] = __fadd_rn(taken_up[r], v[r]);
    }
    if (is_last) break;
    T::regroup(v, stage, t);
    T::transform(v, stage, t);
#pragma unroll
    for (int r = 0; r < REGISTERS; ++r) v[r] = __fmul_rn(v[r], norm);
    T::regroup(v, stage, t);
    level = __fmul_rn(level, p.eta);
    const u32 signs = *own_signs, taken = *own_taken;
#pragma unroll
    for (int r = 0; r < REGISTERS; r += 4) {
      float4 four = *(const float4 *)(residual + r);
      four.x = left_of(four.x, v[r], signs, taken, r);
      four.y = left_of(four.y, v[r + 1], signs, taken, r + 1);
      four.z = left_of(four.z, v[r + 2], signs, taken, r + 2);
      four.w = left_of(four.w, v[r + 3], signs, taken, r + 3);
      *(float4 *)(residual + r) = four;
    }
  }
  if (!p.clip) return;
#pragma unroll
  for (int r = 0; r < REGISTERS; ++r) v[r] = taken_up[r];
  T::regroup(v, stage, t);
  const double sum = sum_of_squares<K>(stage + padded(T::First::first(t)), sums);
  const float gain = sum > 0.0 ? root(__ddiv_rn(*kept_energy, sum)) : 1.0f;
#pragma unroll
  for (int r = 0; r < REGISTERS; ++r) taken_up[r] = __fmul_rn(taken_up[r], gain);
}

// As encode_blocks of hadamard.cu.
template <int K>
DEVICE void represent_blocks(const Plan &p, const void *values, const int *exponents, u8 *payloads,
                             float *coefficients, u32 *peaks, u32 n_blocks, u8 *memory) {
  typedef Tile<K> T;
  const Shared<K> shared(memory);
  const u32 group = blockIdx.y, first = blockIdx.x * T::BLOCKS;
  const u32 here = T::own_block(), t = T::own_thread();
  const u32 block = first + here;
  const bool is_there = T::BLOCKS == 1 || block < n_blocks;
  put_keys<K>(p, shared, group, first, !wants(coefficients));
  __syncthreads();
  const u32 start = is_there ? block * T::N : 0;
  float *stage = shared.stage + here * (T::N / 8 * 9);
  float *residual = shared.residual + padded(threadIdx.x * REGISTERS);
  const int exponent = exponents[group];
  shared.taken[threadIdx.x] = load_positions(p, residual, values, group, start + t * REGISTERS, exponent);
  float largest = 0.0f;
#pragma unroll
  for (int r = 0; r < REGISTERS; ++r) largest = max_or_nan(largest, fabsf(residual[r]));
  const u32 peak = peak_of_lanes(magnitude_bits(largest));
  if (threadIdx.x % 32 == 0) atomicMax(peaks + group, peak);
  const u32 n_inputs = first_value_from(p, start + T::N) - first_value_from(p, start);
  ((u32 *)shared.signs)[threadIdx.x] = (u32)(word(shared.keys[here], t / 2) >> (32 * (t % 2)));
  float taken_up[REGISTERS];
  represent<K>(p, shared, taken_up, stage, residual, n_inputs);
  put_coefficients<K>(p, taken_up, payloads, coefficients, shared, block, is_there);
}

#define KERNEL(K)                                                                                  \
  extern "C" __global__ void __launch_bounds__(Tile<K>::LAUNCH, 512 / Tile<K>::LAUNCH)             \
  represent_blocks_##K(const Plan p, const void *x, const int *exponents, u8 *payloads,            \
                       float *coefficients, u32 *peaks, u32 n_blocks) {                            \
    SHARED_MEMORY(memory);                                                                         \
    represent_blocks<K>(p, x, exponents, payloads, coefficients, peaks, n_blocks, memory);         \
  }

// One size, or all of them.
#ifdef BLOCK_LOG2
#define KERNEL_OF(K) KERNEL(K)
KERNEL_OF(BLOCK_LOG2)
#else
KERNEL(8)
KERNEL(9)
KERNEL(10)
KERNEL(11)
KERNEL(12)
KERNEL(13)
KERNEL(14)
#endif
