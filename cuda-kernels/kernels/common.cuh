// Types, the counter hash and the conversions that every kernel is made of.
//
// The arithmetic is that of codec/FORMAT.md: one rounding per written operation, in the written
// order. So every sum, product and quotient of floats goes through an intrinsic that rounds to
// nearest and cannot be contracted; sanitizers and the scalar code of the codec check the rest.
// No host header is included: nvcc, NVRTC and, through sim/simt.h, g++ compile the same files.
#pragma once

#ifndef SIMT_ON_CPU
// Dynamic shared memory of a kernel, 16-byte aligned.
#define SHARED_MEMORY(name) extern __shared__ __align__(16) unsigned char name[]
#endif
#define DEVICE static __device__ __forceinline__
#define DEVICE_METHOD __device__ __forceinline__

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

const u32 ALL_LANES = 0xffffffffu;

// Element types, as src/plan.rs numbers them.
enum Element { F32 = 0, F16 = 1, BF16 = 2 };

// What the groups of one launch have in common. The same struct stands in src/plan.rs; a test
// compares the two. Letters are those of FORMAT.md, section 7.
struct Plan {
  u64 first_group;     // f of group 0 of the launch
  u64 signs;           // keys of the tensor, the block not yet absorbed
  u64 window_signs;
  u64 rounding;
  u64 payload_stride;  // bytes from one group's scales to the next one's
  u64 codes_at;        // bytes from a group's scales to its codes
  u32 n_values;        // n of each group
  u32 n_coefficients;  // N
  u32 n_coded;         // K
  u32 element;         // an Element
  u32 block_log2;      // k of the rotation
  u32 scale_log2;      // b of the quantizer
  u32 q;               // bits a code; 0: coefficients stay f32
  u32 nearest;         // 1: round to nearest, zero being a level
  float gain;          // of the coded coefficients that blocks of 64 were selected from,
  u32 n_gained;        // K': so many, the first ones
  float weight;        // of what is added, where adds is 1
  u32 adds;            // 1: values are added to f32 sums
  u32 iterations;      // Kashin; 0: plain rotation
  float eta;
  float delta;
  u32 clip;
  u32 coefficient_stride;  // coefficients from one group to the next
};
static_assert(sizeof(Plan) == 120, "the layout of src/plan.rs");

// ---- Randomness (FORMAT.md, section 8) ------------------------------------------------------

const u64 INCREMENT = 0x9E3779B97F4A7C15ull;

DEVICE u64 mix(u64 z) {
  z ^= z >> 30;
  z *= 0xBF58476D1CE4E5B9ull;
  z ^= z >> 27;
  z *= 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// What word i of a key is mixed from; INCREMENT leads from one word to the next.
DEVICE u64 word_counter(u64 key, u64 i) { return key + (i + 1) * INCREMENT; }

DEVICE u64 word(u64 key, u64 i) { return mix(word_counter(key, i)); }

// The key of block `block` of group `group`.
DEVICE u64 block_key(u64 key, u64 group, u32 block) {
  return mix(key ^ mix(((group << 16) | block) + INCREMENT));
}

const u32 INCREMENT32 = 0x9E3779B9u, FACTOR32 = 0xC2B2AE35u;

// Words of 32 bits of a key, which hold two draws each.
struct Draws {
  u32 low, high;  // the halves of the key, the upper one times FACTOR32

  DEVICE_METHOD explicit Draws(u64 key) : low((u32)key), high((u32)(key >> 32) * FACTOR32) {}

  // What word i is mixed from; INCREMENT32 leads from one word to the next.
  DEVICE_METHOD u32 counter(u32 i) const { return low + (i + 1) * INCREMENT32; }

  // (z + h) * FACTOR32 is z * FACTOR32 + h * FACTOR32: modulo 2^32 that is exact.
  DEVICE_METHOD u32 word(u32 counter) const {
    u32 z = counter;
    z ^= z >> 16;
    z *= 0x85EBCA6Bu;
    z ^= z >> 13;
    z = z * FACTOR32 + high;
    return z ^ (z >> 16);
  }
};

// ---- Floats -----------------------------------------------------------------------------------

DEVICE float flip(float x, u32 sign) { return __uint_as_float(__float_as_uint(x) ^ (sign << 31)); }

// The larger one, or NaN if one is NaN.
#ifndef SIMT_ON_CPU
DEVICE float max_or_nan(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}
#endif

DEVICE u32 magnitude_bits(float x) { return __float_as_uint(x) & 0x7fffffffu; }

DEVICE float power_of_two(int exponent) { return __uint_as_float((u32)(127 + exponent) << 23); }

// 2^(-k/2): exact for even k, else 1/sqrt(2) rounded once and scaled.
DEVICE float norm_of(u32 k) {
  const float half = power_of_two(-(int)(k / 2));
  return k % 2 ? __fmul_rn(half, __uint_as_float(0x3F3504F3u)) : half;
}

// Times 2^e in two factors, each a normal number; e / 2 truncates.
DEVICE float scale_by(float x, int e) {
  return __fmul_rn(__fmul_rn(x, power_of_two(e / 2)), power_of_two(e - e / 2));
}

DEVICE float clamp_to(float x, float limit) {
  if (x < -limit) return -limit;
  return x > limit ? limit : x;
}

DEVICE float scale_up(float x, int e) {
  return clamp_to(scale_by(x, e), __uint_as_float(0x7f7fffffu));
}

DEVICE float from_half(u16 bits) {
  const u32 sign = (u32)(bits & 0x8000u) << 16;
  u32 magnitude = (u32)(bits & 0x7fffu) << 13;
  // The product is exact, for subnormal halves, too; infinity and NaN keep their exponent.
  const u32 widened = __float_as_uint(__fmul_rn(__uint_as_float(magnitude), power_of_two(112)));
  const bool is_finite = magnitude < 0x0f800000u;
  return __uint_as_float(sign | (is_finite ? widened : magnitude | 0x7f800000u));
}

// Round to nearest even, saturating; x is finite.
DEVICE u16 to_half(float x) {
  const u32 sign = (__float_as_uint(x) >> 16) & 0x8000u;
  const float magnitude = __uint_as_float(magnitude_bits(clamp_to(x, 65504.0f)));
  if (magnitude < 6.103515625e-5f) {  // below 2^-14: a multiple of 2^-24
    return (u16)(sign | (u32)__float2int_rn(__fmul_rn(magnitude, 16777216.0f)));
  }
  const u32 bits = __float_as_uint(magnitude) - (112u << 23);
  return (u16)(sign | ((bits + 0x0fffu + ((bits >> 13) & 1u)) >> 13));
}

DEVICE float from_bfloat(u16 bits) { return __uint_as_float((u32)bits << 16); }

// Round to nearest even, saturating; x is finite.
DEVICE u16 to_bfloat(float x) {
  const u32 bits = __float_as_uint(clamp_to(x, __uint_as_float(0x7f7f0000u)));
  return (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// An f32 as the element type holds it.
DEVICE float round_to(u32 element, float x) {
  if (element == F16) return from_half(to_half(x));
  if (element == BF16) return from_bfloat(to_bfloat(x));
  return x;
}

// ---- Elements in memory -----------------------------------------------------------------------

DEVICE float load_element(const void *x, u64 i, u32 element) {
  if (element == F32) return ((const float *)x)[i];
  const u16 bits = ((const u16 *)x)[i];
  return element == F16 ? from_half(bits) : from_bfloat(bits);
}

// Four elements from a multiple of four on, in one access.
DEVICE float4 load_four(const void *x, u64 i, u32 element) {
  if (element == F32) return *(const float4 *)((const float *)x + i);
  const ushort4 bits = *(const ushort4 *)((const u16 *)x + i);
  float4 v;
  if (element == F16) {
    v.x = from_half(bits.x), v.y = from_half(bits.y);
    v.z = from_half(bits.z), v.w = from_half(bits.w);
  } else {
    v.x = from_bfloat(bits.x), v.y = from_bfloat(bits.y);
    v.z = from_bfloat(bits.z), v.w = from_bfloat(bits.w);
  }
  return v;
}

// A decoded value to its place: stored as its type, or added to a sum.
DEVICE void put_element(const Plan &p, void *out, u64 i, float v) {
  if (p.adds) {
    float *sum = (float *)out + i;
    *sum = __fadd_rn(*sum, __fmul_rn(round_to(p.element, v), p.weight));
  } else if (p.element == F32) {
    ((float *)out)[i] = v;
  } else {
    ((u16 *)out)[i] = p.element == F16 ? to_half(v) : to_bfloat(v);
  }
}

DEVICE void add_four(const Plan &p, float4 *sums, const float *v) {
  float4 s = *sums;
  s.x = __fadd_rn(s.x, __fmul_rn(round_to(p.element, v[0]), p.weight));
  s.y = __fadd_rn(s.y, __fmul_rn(round_to(p.element, v[1]), p.weight));
  s.z = __fadd_rn(s.z, __fmul_rn(round_to(p.element, v[2]), p.weight));
  s.w = __fadd_rn(s.w, __fmul_rn(round_to(p.element, v[3]), p.weight));
  *sums = s;
}

// Four of them, from a multiple of four on.
DEVICE void put_four(const Plan &p, void *out, u64 i, const float *v) {
  if (p.adds) {
    add_four(p, (float4 *)((float *)out + i), v);
  } else if (p.element == F32) {
    float4 s;
    s.x = v[0], s.y = v[1], s.z = v[2], s.w = v[3];
    *(float4 *)((float *)out + i) = s;
  } else {
    const bool half = p.element == F16;
    ushort4 s;
    s.x = half ? to_half(v[0]) : to_bfloat(v[0]);
    s.y = half ? to_half(v[1]) : to_bfloat(v[1]);
    s.z = half ? to_half(v[2]) : to_bfloat(v[2]);
    s.w = half ? to_half(v[3]) : to_bfloat(v[3]);
    *(ushort4 *)((u16 *)out + i) = s;
  }
}
