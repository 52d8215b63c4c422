// What the kernels of whole blocks share: their shared memory, and the way of coefficients out of
// registers, as they are or quantized and packed.
#pragma once
#include "tile.cuh"
#include "uniform.cuh"

// Counting instructions (ptx.sh --count) leaves nothing but one case: f32 values of ordinary size,
// with stochastic rounding at q = 4 or with coefficients kept.
#ifdef COUNTED_CASE
DEVICE Plan narrowed(Plan p) {
  p.element = F32;
  p.q = 4;
  p.nearest = p.adds = 0;
  return p;
}
DEVICE int exponent_of(const int *, u32) { return 0; }
DEVICE bool wants(const void *) { return COUNTED_CASE == 2; }
#else
DEVICE const Plan &narrowed(const Plan &p) { return p; }
DEVICE int exponent_of(const int *exponents, u32 group) { return exponents[group]; }
DEVICE bool wants(const void *coefficients) { return coefficients != 0; }
#endif

// Shared memory of a kernel; Job::blockwise in src/launch.rs adds up the same.
template <int K> struct Shared {
  typedef Tile<K> T;
  float *stage;
  float2 *ranges;  // one for each warp
  u64 *keys;       // those of the signs of each block
  Draws *draws;    // one for each block
  u64 *signs;      // 64 signs a word
  u32 *taken;      // one for each thread
  float *residual; // 32 values for each thread, padded; of kashin.cu alone

  DEVICE_METHOD explicit Shared(u8 *memory) {
    stage = (float *)memory;
    ranges = (float2 *)(stage + T::STAGE);
    keys = (u64 *)(ranges + 32);
    draws = (Draws *)(keys + T::BLOCKS);
    signs = (u64 *)(draws + T::BLOCKS);
    taken = (u32 *)(signs + T::BLOCKS * T::N / 64);
    residual = (float *)(taken + T::LAUNCH);
  }
};

// Keys of the blocks from `first` on to shared memory, and their draws where codes are rounded.
template <int K>
DEVICE void put_keys(const Plan &p, const Shared<K> &shared, u32 group, u32 first, bool rounds) {
  if (threadIdx.x >= Tile<K>::BLOCKS) return;
  const u64 f = p.first_group + group;
  shared.keys[threadIdx.x] = block_key(p.signs, f, first + threadIdx.x);
  if (rounds) shared.draws[threadIdx.x] = Draws(block_key(p.rounding, f, first + threadIdx.x));
}

// Smallest and largest of a block, known to all its threads.
template <int K> DEVICE Grid grid_of_block(const Plan &p, const float (&v)[REGISTERS], float2 *ranges) {
  typedef Tile<K> T;
  float lo = v[0], hi = v[0];
#pragma unroll
  for (int r = 1; r < REGISTERS; ++r) {
    lo = fminf(lo, v[r]);
    hi = fmaxf(hi, v[r]);
  }
  range_of_lanes<(T::THREADS < 32 ? T::THREADS : 32)>(lo, hi);
  if (T::THREADS > 32) {
    const u32 warps = T::THREADS < 32 ? 1 : T::THREADS / 32, warp = threadIdx.x / 32;
    if (threadIdx.x % 32 == 0) {
      ranges[warp].x = lo;
      ranges[warp].y = hi;
    }
    __syncthreads();
    const u32 begin = warp / warps * warps;
#pragma unroll 4
    for (u32 w = begin; w < begin + warps; ++w) {
      lo = fminf(lo, ranges[w].x);
      hi = fmaxf(hi, ranges[w].y);
    }
  }
  return grid_of(p, lo, hi);
}

// Codes of the coefficients in the place of their bits.
template <int K>
DEVICE void round_block(const Plan &p, float (&v)[REGISTERS], const Grid &grid, const Draws &draws, u32 t) {
  typedef Tile<K> T;
  if (p.nearest) {
#pragma unroll
    for (int r = 0; r < REGISTERS; ++r) v[r] = __uint_as_float(nearest_code(grid, v[r]));
    return;
  }
  const u32 counter = draws.counter(T::Last::first(t) / 2);
#pragma unroll
  for (int r = 0; r < REGISTERS; r += 2) {
    const u32 word = draws.word(counter + T::Last::offset(r) / 2 * INCREMENT32);
    v[r] = __uint_as_float(drawn_code(grid, v[r], even_half(word)));
    v[r + 1] = __uint_as_float(drawn_code(grid, v[r + 1], odd_half(word)));
  }
}

// Packs 32 neighbours of any number of bits.
DEVICE void pack_staged(u32 q, const u16 *codes, u32 *out) {
  u64 bits = 0;
  u32 n_bits = 0;
#pragma unroll 1
  for (int r = 0; r < REGISTERS; ++r) {
    bits |= (u64)codes[r] << n_bits;
    n_bits += q;
    if (n_bits >= 32) {
      *out++ = (u32)bits;
      bits >>= 32;
      n_bits -= 32;
    }
  }
}

// Four neighbours are two bytes at q = 4 and a word at q = 8, which go straight to their place;
// other codes pass through shared memory, so that each thread packs 32 neighbours.
template <int K>
DEVICE void put_codes(const Plan &p, const float (&v)[REGISTERS], u8 *out, u16 *staged, u32 t,
                      bool is_there) {
  typedef Tile<K> T;
  const u32 at = T::Last::first(t);
  const bool is_direct = p.q == 4 || p.q == 8;
  if (!is_direct) __syncthreads();  // the staged codes take the place of values
#pragma unroll
  for (int r = 0; r < REGISTERS; r += 4) {
    const u32 i = at + T::Last::offset(r);
    const u32 low = __float_as_uint(v[r]) + (__float_as_uint(v[r + 1]) << p.q);
    const u32 high = __float_as_uint(v[r + 2]) + (__float_as_uint(v[r + 3]) << p.q);
    if (!is_direct) {
      ushort4 four;
      four.x = (u16)__float_as_uint(v[r]), four.y = (u16)__float_as_uint(v[r + 1]);
      four.z = (u16)__float_as_uint(v[r + 2]), four.w = (u16)__float_as_uint(v[r + 3]);
      *(ushort4 *)(staged + i) = four;
    } else if (is_there && p.q == 4) {
      *(u16 *)(out + at / 2 + T::Last::offset(r) / 2) = (u16)(low + (high << 8));
    } else if (is_there) {
      *(u32 *)(out + at + T::Last::offset(r)) = low + (high << 16);
    }
  }
  if (!is_direct) {
    __syncthreads();
    if (is_there) pack_staged(p.q, staged + t * REGISTERS, (u32 *)out + t * p.q);
  }
}

// Coefficients of a block, which thread t holds as the last round of the transform leaves them: to
// memory, or quantized where `coefficients` is 0.
template <int K>
DEVICE void put_coefficients(const Plan &p, float (&v)[REGISTERS], u8 *payloads, float *coefficients,
                             const Shared<K> &shared, u32 block, bool is_there) {
  typedef Tile<K> T;
  const u32 group = blockIdx.y, here = T::own_block(), t = T::own_thread();
  if (wants(coefficients)) {
    float *out = coefficients + (u64)group * p.coefficient_stride + (u64)block * T::N + T::Last::first(t);
#pragma unroll
    for (int r = 0; r < REGISTERS; r += 4) {
      float4 four;
      four.x = v[r], four.y = v[r + 1], four.z = v[r + 2], four.w = v[r + 3];
      if (is_there) *(float4 *)(out + T::Last::offset(r)) = four;
    }
    return;
  }
  const Grid grid = grid_of_block<K>(p, v, shared.ranges);
  u8 *payload = payloads + (u64)group * p.payload_stride;
  if (t == 0 && is_there) {
    float2 scale;
    scale.x = grid.lo, scale.y = grid.step;
    ((float2 *)payload)[block] = scale;
  }
  u8 *out = payload + p.codes_at + (u64)block * T::N / 8 * p.q;
  u16 *staged = (u16 *)shared.stage + here * T::N;
  round_block<K>(p, v, grid, shared.draws[here], t);
  put_codes<K>(p, v, out, staged, t, is_there);
}
