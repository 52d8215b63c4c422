// Whole blocks of the rotation, fused with what stands before and behind it: signs, transform,
// scale, quantization and packing in one pass over memory, and the way back, which may add to a
// sum. Blocks of the rotation and of the quantizer coincide here; other pipelines, and the unit at
// the end of a group, go through general.cu.
#include "block.cuh"

// Loads the blocks of this thread block into shared memory, neighbours by neighbours, scaled by
// the exponent of their group. The common case is unrolled, so that several loads are under way;
// the others are loops, to keep the code short.
template <int K>
DEVICE void stage_values(const Plan &p, const void *x, u64 from, u32 n, int exponent, float *stage) {
  typedef Tile<K> T;
  if (p.element == F32 && (T::BLOCKS == 1 || n >= T::BLOCKS * T::N)) {
    const u32 i = threadIdx.x * 4;
    const float *source = (const float *)x + from + i;
    float *place = stage + padded(i);
#pragma unroll
    for (u32 j = 0; j < T::BLOCKS * T::N; j += T::LAUNCH * 4) {
      *(float4 *)(place + padded(j)) = *(const float4 *)(source + j);
    }
  } else {
#pragma unroll 1
    for (u32 i = threadIdx.x * 4; i < T::BLOCKS * T::N; i += T::LAUNCH * 4) {
      float4 v;
      v.x = v.y = v.z = v.w = 0.0f;
      if (i < n) v = load_four(x, from + i, p.element);
      *(float4 *)(stage + padded(i)) = v;
    }
  }
  if (exponent == 0) return;
#pragma unroll 1
  for (u32 i = threadIdx.x * 4; i < T::BLOCKS * T::N; i += T::LAUNCH * 4) {
    float *v = stage + padded(i);
    for (int e = 0; e < 4; ++e) v[e] = scale_by(v[e], -exponent);
  }
}

// Values to coefficients, or to scales and codes where the pipeline has a quantizer: `coefficients`
// is then 0. One thread block takes T::BLOCKS of the `n_blocks` first blocks of group blockIdx.y.
template <int K>
DEVICE void encode_blocks(const Plan &p, const void *x, const int *exponents, u8 *payloads,
                          float *coefficients, u32 *peaks, u32 n_blocks, u8 *memory) {
  typedef Tile<K> T;
  const Shared<K> shared(memory);
  const u32 group = blockIdx.y, first = blockIdx.x * T::BLOCKS;
  const u32 here = T::own_block(), t = T::own_thread();
  const u32 block = first + here;
  const bool is_there = T::BLOCKS == 1 || block < n_blocks;
  const u64 from = (u64)group * p.n_values + (u64)first * T::N;
  stage_values<K>(p, x, from, (n_blocks - first) * T::N, exponent_of(exponents, group),
                  shared.stage);
  put_keys<K>(p, shared, group, first, !wants(coefficients));
  __syncthreads();

  float *stage = shared.stage + here * (T::N / 8 * 9);
  float v[REGISTERS];
  T::First::load(v, stage, t);
  const u32 signs = (u32)(word(shared.keys[here], t / 2) >> (32 * (t % 2)));
  float largest = 0.0f;
#pragma unroll
  for (int r = 0; r < REGISTERS; ++r) {
    largest = max_or_nan(largest, fabsf(v[r]));
    v[r] = flip(v[r], signs >> r);
  }
  const u32 peak = peak_of_lanes(magnitude_bits(largest));
  if (threadIdx.x % 32 == 0) atomicMax(peaks + group, peak);
  T::transform(v, stage, t);
  const float norm = norm_of(K);
#pragma unroll
  for (int r = 0; r < REGISTERS; ++r) v[r] = __fmul_rn(v[r], norm);

  put_coefficients<K>(p, v, payloads, coefficients, shared, block, is_there);
}

// Q-bit codes of 32 neighbours, from Q words, four in one access.
template <int Q> DEVICE void unpack(float (&v)[REGISTERS], const u32 *codes, float lo, float step) {
  u32 words[Q];
#pragma unroll
  for (int i = 0; i < Q; i += 4) {
    const uint4 four = *(const uint4 *)(codes + i);
    words[i] = four.x, words[i + 1] = four.y, words[i + 2] = four.z, words[i + 3] = four.w;
  }
#pragma unroll
  for (int r = 0; r < REGISTERS; ++r) {
    const u32 code = words[r * Q / 32] >> (r * Q % 32) & ((1u << Q) - 1u);
    v[r] = value_of(lo, step, code);
  }
}

// Coefficients of the 32 neighbours that thread t holds first; `stage` is that of its block.
template <int K>
DEVICE void load_coded(const Plan &p, float (&v)[REGISTERS], const u8 *payload, u32 block, u32 t,
                       float *stage) {
  typedef Tile<K> T;
  const u32 *codes = (const u32 *)(payload + p.codes_at + (u64)block * T::N / 8 * p.q) + t * p.q;
  const float2 scale = ((const float2 *)payload)[block];
  if (p.q == 4) return unpack<4>(v, codes, scale.x, scale.y);
  if (p.q == 8) return unpack<8>(v, codes, scale.x, scale.y);
#pragma unroll 1
  for (u32 r = 0; r < REGISTERS; ++r) {
    stage[padded(t * REGISTERS + r)] = value_of(scale.x, scale.y, code_at(codes, r, p.q));
  }
  T::First::load(v, stage, t);
}

DEVICE void load_floats(float (&v)[REGISTERS], const float *from) {
#pragma unroll
  for (int r = 0; r < REGISTERS; r += 4) {
    const float4 four = *(const float4 *)(from + r);
    v[r] = four.x, v[r + 1] = four.y, v[r + 2] = four.z, v[r + 3] = four.w;
  }
}

// Values to their places. The common case is unrolled; the others are a loop over shared memory,
// of which each thread reads what it wrote.
template <int K>
DEVICE void put_block(const Plan &p, const float (&v)[REGISTERS], void *values, u64 from,
                      int exponent, u32 t, float *stage) {
  typedef Tile<K> T;
  const u32 at = T::Last::first(t);
  if (p.element == F32 && !p.adds && !exponent) {
#pragma unroll
    for (int r = 0; r < REGISTERS; r += 4) {
      float4 four;
      four.x = v[r], four.y = v[r + 1], four.z = v[r + 2], four.w = v[r + 3];
      *(float4 *)((float *)values + from + (at + T::Last::offset(r))) = four;
    }
    return;
  }
  T::Last::store(v, stage, t);
#pragma unroll 1
  for (u32 r = 0; r < REGISTERS; r += 4) {
    const u32 i = at + T::Last::offset(r);
    float four[4];
    for (int e = 0; e < 4; ++e) {
      const float x = stage[padded(i) + e];
      four[e] = exponent ? scale_up(x, exponent) : x;
    }
    put_four(p, values, from + i, four);
  }
}

// Scales and codes, or coefficients where `coefficients` is not 0, to values: stored or added.
template <int K>
DEVICE void decode_blocks(const Plan &p, const u8 *payloads, const float *coefficients,
                          const int *exponents, void *values, u32 n_blocks, u8 *memory) {
  typedef Tile<K> T;
  const Shared<K> shared(memory);
  const u32 group = blockIdx.y, first = blockIdx.x * T::BLOCKS;
  const u32 here = T::own_block(), t = T::own_thread();
  const u32 block = first + here;
  const bool is_there = T::BLOCKS == 1 || block < n_blocks;
  put_keys<K>(p, shared, group, first, false);
  __syncthreads();
  for (u32 i = threadIdx.x; i < T::BLOCKS * T::N / 64; i += T::LAUNCH) {
    shared.signs[i] = word(shared.keys[i / (T::N / 64)], i % (T::N / 64));
  }

  float *stage = shared.stage + here * (T::N / 8 * 9);
  float v[REGISTERS];
#pragma unroll
  for (int r = 0; r < REGISTERS; ++r) v[r] = 0.0f;
  const u64 i = (u64)block * T::N + t * REGISTERS;
  if (is_there && wants(coefficients)) {
    load_floats(v, coefficients + (u64)group * p.coefficient_stride + i);
  } else if (is_there) {
    load_coded<K>(p, v, payloads + (u64)group * p.payload_stride, block, t, stage);
  }
  T::transform(v, stage, t);

  const float norm = norm_of(K);
  const u64 *signs = shared.signs + here * (T::N / 64);
#pragma unroll
  for (int r = 0; r < REGISTERS; r += 4) {
    const u32 at = T::Last::first(t) + T::Last::offset(r);
    const u32 four = (u32)(signs[at / 64] >> (at % 64));
#pragma unroll
    for (int e = 0; e < 4; ++e) v[r + e] = flip(__fmul_rn(v[r + e], norm), four >> e);
  }
  if (!is_there) return;
  const u64 from = (u64)group * p.n_values + (u64)block * T::N;
  put_block<K>(p, v, values, from, exponent_of(exponents, group), t, stage);
}

#define KERNELS(K)                                                                                 \
  extern "C" __global__ void __launch_bounds__(Tile<K>::LAUNCH, 1024 / Tile<K>::LAUNCH)            \
  encode_blocks_##K(const Plan p, const void *x, const int *exponents, u8 *payloads,               \
                    float *coefficients, u32 *peaks, u32 n_blocks) {                               \
    SHARED_MEMORY(memory);                                                                         \
    encode_blocks<K>(narrowed(p), x, exponents, payloads, coefficients, peaks, n_blocks, memory);  \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(Tile<K>::LAUNCH, 1024 / Tile<K>::LAUNCH)            \
  decode_blocks_##K(const Plan p, const u8 *payloads, const float *coefficients,                   \
                    const int *exponents, void *values, u32 n_blocks) {                            \
    SHARED_MEMORY(memory);                                                                         \
    decode_blocks<K>(narrowed(p), payloads, coefficients, exponents, values, n_blocks, memory);    \
  }

// Images hold one size each (ptx.sh), so that a driver compiles no more than is used.
#ifdef BLOCK_LOG2
#define KERNELS_OF(K) KERNELS(K)
KERNELS_OF(BLOCK_LOG2)
#else
KERNELS(8)
KERNELS(9)
KERNELS(10)
KERNELS(11)
KERNELS(12)
KERNELS(13)
KERNELS(14)
KERNELS(15)
#endif
