// The Walsh-Hadamard transform of a block of 2^K values, 32 of them in the registers of a thread.
//
// FORMAT.md fixes the order of the stages, h = 1, 2, 4, ...; who holds which value meanwhile is
// free. A `Held<LOW, FROM>` says it: the registers of a thread span the LOW lowest bits of the
// index and the next 5 - LOW bits from FROM on, its number spans the others. The stages of the
// bits in registers need no exchange; between two such rounds the block passes through shared
// memory, written and read by the same thread at the same places but for the barrier between.
// The first round holds bits 0-4, the last one bits 0, 1 and the top three: so neighbours end in
// one thread, which can share a word of draws between them and pack their codes together.
//
// Rows of 32 values are four apart, so neither 16-byte accesses of neighbouring rows nor shorter ones
// along a row meet in a bank.
#pragma once
#include "common.cuh"

const int REGISTERS = 32;

// Where value i stands in shared memory.
DEVICE u32 padded(u32 i) { return i + ((i >> 5) << 2); }

template <int LOW, int FROM> struct Held {
  static const int HIGH = 5 - LOW;

  // Index of the value in register 0 of thread t.
  static DEVICE_METHOD u32 first(u32 t) {
    const u32 between = FROM - LOW;
    return ((t & ((1u << between) - 1u)) << LOW) | ((t >> between) << (FROM + HIGH));
  }

  // What register r adds to it.
  static DEVICE_METHOD u32 offset(u32 r) {
    return (r & ((1u << LOW) - 1u)) | ((r >> LOW) << FROM);
  }

  // The register bit of index bit b.
  static constexpr __device__ int register_bit(int b) { return b < LOW ? b : LOW + b - FROM; }

  // Runs the stages of index bits BEGIN up to END.
  template <int BEGIN, int END> static DEVICE_METHOD void stages(float (&v)[REGISTERS]) {
#pragma unroll
    for (int b = BEGIN; b < END; ++b) {
      const int h = 1 << register_bit(b);
#pragma unroll
      for (int r = 0; r < REGISTERS; ++r) {
        if (r & h) continue;
        const float low = v[r], high = v[r | h];
        v[r] = __fadd_rn(low, high);
        v[r | h] = __fsub_rn(low, high);
      }
    }
  }

  static DEVICE_METHOD void store(const float (&v)[REGISTERS], float *stage, u32 t) {
    const u32 at = padded(first(t));  // no carry: the two span different bits
    if (LOW >= 2) {
#pragma unroll
      for (int r = 0; r < REGISTERS; r += 4) {
        float4 four;
        four.x = v[r], four.y = v[r + 1], four.z = v[r + 2], four.w = v[r + 3];
        *(float4 *)(stage + at + padded(offset(r))) = four;
      }
    } else if (LOW == 1) {
#pragma unroll
      for (int r = 0; r < REGISTERS; r += 2) {
        float2 two;
        two.x = v[r], two.y = v[r + 1];
        *(float2 *)(stage + at + padded(offset(r))) = two;
      }
    } else {
#pragma unroll
      for (int r = 0; r < REGISTERS; ++r) stage[at + padded(offset(r))] = v[r];
    }
  }

  static DEVICE_METHOD void load(float (&v)[REGISTERS], const float *stage, u32 t) {
    const u32 at = padded(first(t));  // no carry: the two span different bits
    if (LOW >= 2) {
#pragma unroll
      for (int r = 0; r < REGISTERS; r += 4) {
        const float4 four = *(const float4 *)(stage + at + padded(offset(r)));
        v[r] = four.x, v[r + 1] = four.y, v[r + 2] = four.z, v[r + 3] = four.w;
      }
    } else if (LOW == 1) {
#pragma unroll
      for (int r = 0; r < REGISTERS; r += 2) {
        const float2 two = *(const float2 *)(stage + at + padded(offset(r)));
        v[r] = two.x, v[r + 1] = two.y;
      }
    } else {
#pragma unroll
      for (int r = 0; r < REGISTERS; ++r) v[r] = stage[at + padded(offset(r))];
    }
  }
};

// Blocks of 2^K; small ones share a thread block.
template <int K> struct Tile {
  static const int N = 1 << K;
  static const int THREADS = N / REGISTERS;                    // of one block
  static const int BLOCKS = THREADS < 128 ? 128 / THREADS : 1;  // in one thread block
  static const int LAUNCH = THREADS * BLOCKS;
  static const int STAGE = BLOCKS * N / 8 * 9;  // floats of shared memory

  // Which of the blocks a thread works on, and its number there.
  static DEVICE_METHOD u32 own_block() { return BLOCKS == 1 ? 0 : threadIdx.x / THREADS; }
  static DEVICE_METHOD u32 own_thread() {
    return BLOCKS == 1 ? threadIdx.x : threadIdx.x % THREADS;
  }

  typedef Held<5, 5> First;
  typedef Held<(K < 13 ? 1 : 0), 5> Second;  // bits 5-8 and 0, or 5-9
  typedef Held<0, (K < 15 ? K - 5 : 10)> Third;
  typedef Held<2, K - 3> Last;

  // From `First` to `Last`: all stages. Every thread of the thread block calls it; `stage` is that
  // of its own block, t its number there.
  static DEVICE_METHOD void transform(float (&v)[REGISTERS], float *stage, u32 t) {
    First::template stages<0, 5>(v);
    First::store(v, stage, t);
    __syncthreads();
    if (K > 8) {
      const int end = K - 3 < 10 ? K - 3 : 10;
      Second::load(v, stage, t);
      Second::template stages<(K > 8 ? 5 : end), end>(v);
      Second::store(v, stage, t);
      __syncthreads();
    }
    if (K > 13) {
      Third::load(v, stage, t);
      Third::template stages<(K > 13 ? 10 : K - 3), K - 3>(v);
      Third::store(v, stage, t);
      __syncthreads();
    }
    Last::load(v, stage, t);
    Last::template stages<K - 3, K>(v);
  }

  // From `Last` back to `First`, without arithmetic.
  static DEVICE_METHOD void regroup(float (&v)[REGISTERS], float *stage, u32 t) {
    Last::store(v, stage, t);
    __syncthreads();
    First::load(v, stage, t);
  }
};
