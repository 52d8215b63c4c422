// Runs CUDA C++ kernels on the processor: every CUDA thread is a fiber, the blocks of a grid run one
// after another. Barriers and shuffles switch fibers; dynamic shared memory comes from the heap, so
// that the address sanitizer sees its ends, and starts out filled with garbage. Under the thread
// sanitizer each CUDA thread is a thread of its own, ordered by __syncthreads and __syncwarp alone:
// a missing barrier is a data race. What it cannot see: more than one interleaving for a seed
// (SIMT_SEED), weak memory, bank conflicts, time.
//
// A barrier that not every thread reaches, a shuffle by part of a warp and two operations at one
// barrier end the process with the block and thread that noticed.
#pragma once
#define SIMT_ON_CPU 1
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>
#include <sys/mman.h>

#if !defined(__x86_64__)
#error "the switch between fibers is written for x86-64"
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char *, int);
void AnnotateIgnoreReadsEnd(const char *, int);
void AnnotateIgnoreWritesBegin(const char *, int);
void AnnotateIgnoreWritesEnd(const char *, int);
}
#endif

namespace simt {

// Accesses of the simulator itself, which no CUDA thread makes.
inline void begin_own() {
#if defined(__SANITIZE_THREAD__)
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
}
inline void end_own() {
#if defined(__SANITIZE_THREAD__)
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
}
inline void release(void *tag) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(tag);
#endif
  (void)tag;
}
inline void acquire(void *tag) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(tag);
#endif
  (void)tag;
}

struct Index {
  unsigned x, y, z;
};

const size_t STACK = 128 << 10;
const unsigned WARP = 32, MOST_THREADS = 1024;

// Stacks of the fibers of a block, and their contexts of the thread sanitizer: made once for each
// thread of the host, as making them takes longer than most kernels.
struct Stacks {
  char *memory = nullptr;
  void *shadows[MOST_THREADS] = {};

  char *of(unsigned number) {
    if (memory == nullptr) {
      void *mapped = mmap(nullptr, MOST_THREADS * STACK, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (mapped == MAP_FAILED) abort();
      memory = (char *)mapped;
    }
    return memory + number * STACK;
  }

  void *shadow(unsigned number) {
#if defined(__SANITIZE_THREAD__)
    if (shadows[number] == nullptr) shadows[number] = __tsan_create_fiber(0);
#endif
    return shadows[number];
  }

  ~Stacks() {
#if defined(__SANITIZE_THREAD__)
    for (void *shadow : shadows) {
      if (shadow) __tsan_destroy_fiber(shadow);
    }
#endif
    if (memory) munmap(memory, MOST_THREADS * STACK);
  }
};

inline Stacks &stacks() {
  static thread_local Stacks s;
  return s;
}

enum Operation { NONE, BARRIER, WARP_BARRIER, SHUFFLE };

struct Fiber {
  unsigned number = 0;
  bool done = false;
  void *stack_pointer = nullptr;
  char *stack = nullptr;
  void *fake_stack = nullptr;  // of the address sanitizer
  void *shadow = nullptr;      // of the thread sanitizer
};

// A meeting of a number of fibers. Those that came to one meeting and those that come to the next
// have different tags, else a late reader would seem to be ordered after an early next writer.
struct Meeting {
  unsigned expected = 0, arrived = 0, generation = 0;
  Operation operation = NONE;
  char tags[2];
};

struct Warp {
  Meeting meeting;
  uint64_t slots[2][WARP];
};

struct Machine {
  Index grid{}, block{}, block_index{};
  std::vector<Fiber> fibers;
  std::vector<unsigned> order;
  std::vector<Warp> warps;
  Meeting all;
  Fiber outside, *current = nullptr;
  unsigned position = 0, alive = 0;
  uint64_t idle = 0;
  unsigned char *shared = nullptr;
  const std::function<void()> *body = nullptr;
  char started, ended;
};

inline Machine &machine() {
  static thread_local Machine m;
  return m;
}

[[noreturn]] inline void stop(const char *why) {
  Machine &m = machine();
  fprintf(stderr, "simt: %s (block %u,%u thread %u)\n", why, m.block_index.x, m.block_index.y,
          m.current ? m.current->number : 0);
  abort();
}

// Saves the registers that a call keeps, changes stacks, and takes up the others.
extern "C" void simt_switch(void **from, void *to);
asm(R"(
.text
.weak simt_switch
.type simt_switch,@function
simt_switch:
  pushq %rbx
  pushq %rbp
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbp
  popq %rbx
  ret
.size simt_switch,.-simt_switch
)");

#if defined(__SANITIZE_ADDRESS__)
struct OutsideStack {
  const void *bottom = nullptr;
  size_t size = 0;
};
inline OutsideStack &outside_stack() {
  static thread_local OutsideStack s;
  return s;
}
#endif

inline void go(Fiber &from, Fiber &to) {
  void **save = &from.stack_pointer, *target = to.stack_pointer;
#if defined(__SANITIZE_ADDRESS__)
  const bool leaves = &to == &machine().outside;
  __sanitizer_start_switch_fiber(from.done ? nullptr : &from.fake_stack,
                                 leaves ? outside_stack().bottom : to.stack,
                                 leaves ? outside_stack().size : STACK);
#endif
#if defined(__SANITIZE_THREAD__)
  void *shadow = to.shadow;
  if (from.done) end_own();
  __tsan_switch_to_fiber(shadow, 1);  // 1: the switch itself orders nothing
#endif
  simt_switch(save, target);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

// Leaves the current fiber for the next one that is not done, or for the outside.
inline void pass_on() {
  Machine &m = machine();
  Fiber &from = *m.current;
  if (m.alive == 0) {
    m.current = nullptr;
    go(from, m.outside);
    return;
  }
  do {
    m.position = m.position + 1 == m.order.size() ? 0 : m.position + 1;
  } while (m.fibers[m.order[m.position]].done);
  Fiber &to = m.fibers[m.order[m.position]];
  if (&to == &from) return;
  m.current = &to;
  go(from, to);
}

inline void fiber_main() {
  Machine &m = machine();
#if defined(__SANITIZE_ADDRESS__)
  const void *bottom;
  size_t size;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  if (outside_stack().bottom == nullptr) outside_stack() = {bottom, size};
#endif
  acquire(&m.started);
  (*m.body)();
  release(&m.ended);
  begin_own();
  m.current->done = true;
  --m.alive;
  m.idle = 0;
  pass_on();
  abort();
}

// Waits until all have come. `orders`: what each did before is seen by all after.
inline void meet(Meeting &meeting, Operation operation, bool orders) {
  Machine &m = machine();
  if (meeting.arrived == 0) meeting.operation = operation;
  if (meeting.operation != operation) stop("threads of one barrier called different operations");
  const unsigned generation = meeting.generation;
  char *tag = &meeting.tags[generation & 1];
  if (orders) release(tag);
  if (++meeting.arrived == meeting.expected) {
    meeting.arrived = 0;
    ++meeting.generation;
    m.idle = 0;
  }
  while (meeting.generation == generation) {
    if (++m.idle > 4 * m.fibers.size() + 64) stop("deadlock: a barrier that not every thread reaches");
    pass_on();
  }
  if (orders) acquire(tag);
}

template <class T> T shuffle(unsigned mask, T value, unsigned source) {
  static_assert(sizeof(T) <= 8, "what a shuffle moves");
  begin_own();
  Machine &m = machine();
  const unsigned number = m.current->number;
  Warp &warp = m.warps[number / WARP];
  if (mask != ~0u) stop("a shuffle by part of a warp");
  uint64_t *slots = warp.slots[warp.meeting.generation & 1];
  memcpy(&slots[number % WARP], &value, sizeof(T));
  meet(warp.meeting, SHUFFLE, false);
  memcpy(&value, &slots[source % WARP], sizeof(T));
  end_own();
  return value;
}

inline void prepare(Fiber &fiber, unsigned number) {
  fiber = Fiber();
  fiber.number = number;
  char *stack = stacks().of(number);
  fiber.stack = stack;
  fiber.shadow = stacks().shadow(number);
  // Six registers, where to go, and a word that aligns the stack as a call does.
  void **top = (void **)(stack + STACK) - 8;
  memset(top, 0, 8 * sizeof(void *));
  top[6] = (void *)&fiber_main;
  fiber.stack_pointer = top;
}

inline void run_block(size_t shared_bytes, uint64_t &random) {
  Machine &m = machine();
  const unsigned n = m.fibers.size();
  std::unique_ptr<unsigned char[]> shared(new unsigned char[shared_bytes ? shared_bytes : 1]);
  memset(shared.get(), 0xA7, shared_bytes);
  m.shared = shared.get();
  m.warps.assign(n / WARP, Warp());
  for (Warp &warp : m.warps) warp.meeting.expected = WARP;
  m.all = Meeting();
  m.all.expected = m.alive = n;
  m.idle = 0;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stacks().of(0), n * STACK);
#endif
  for (unsigned i = 0; i < n; ++i) {
    prepare(m.fibers[i], i);
    m.order[i] = i;
  }
  for (unsigned i = n - 1; random && i; --i) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    std::swap(m.order[i], m.order[(random >> 33) % (i + 1)]);
  }
  release(&m.started);
  m.position = 0;
  m.current = &m.fibers[m.order[0]];
  go(m.outside, *m.current);
  acquire(&m.ended);
}

inline void launch(Index grid, Index block, size_t shared_bytes, const std::function<void()> &body) {
  Machine &m = machine();
  const unsigned n = block.x * block.y * block.z;
  if (n == 0 || n > MOST_THREADS || n % WARP) stop("a block has 1 to 32 whole warps");
  m.grid = grid;
  m.block = block;
  m.body = &body;
  m.fibers.assign(n, Fiber());
  m.order.resize(n);
#if defined(__SANITIZE_THREAD__)
  m.outside.shadow = __tsan_get_current_fiber();
#endif
  const char *seed = getenv("SIMT_SEED");
  uint64_t random = seed ? strtoull(seed, nullptr, 10) * 2 + 1 : 0;
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      m.block_index = {x, y, 0};
      run_block(shared_bytes, random);
    }
  }
}

// Arguments as cuLaunchKernel takes them, to a typed call.
template <class... A, size_t... I>
void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
  kernel(*(std::remove_const_t<A> *)arguments[I]...);
}
template <class... A>
void launch_kernel(void (*kernel)(A...), Index grid, Index block, size_t shared, void **arguments) {
  launch(grid, block, shared, [=] { call(kernel, arguments, std::index_sequence_for<A...>()); });
}

inline Index thread_index() {
  begin_own();
  const Index i = {machine().current->number, 0, 0};
  end_own();
  return i;
}
inline Index own_copy(const Index &of) {
  begin_own();
  const Index i = of;
  end_own();
  return i;
}
inline unsigned char *shared_memory() {
  begin_own();
  unsigned char *p = machine().shared;
  end_own();
  return p;
}

}  // namespace simt

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define SHARED_MEMORY(name) unsigned char *name = simt::shared_memory()
#define threadIdx (simt::thread_index())
#define blockIdx (simt::own_copy(simt::machine().block_index))
#define blockDim (simt::own_copy(simt::machine().block))

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) ushort4 {
  unsigned short x, y, z, w;
};

inline void __syncthreads() {
  simt::begin_own();
  simt::meet(simt::machine().all, simt::BARRIER, true);
  simt::end_own();
}
inline void __syncwarp() {
  simt::begin_own();
  simt::Machine &m = simt::machine();
  simt::meet(m.warps[m.current->number / simt::WARP].meeting, simt::WARP_BARRIER, true);
  simt::end_own();
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  return simt::shuffle(mask, value, (simt::thread_index().x % simt::WARP) ^ lanes);
}
// Blocks run one after another and fibers switch only at barriers, so this is atomic; races between
// it and plain accesses are not its business.
inline unsigned atomicMax(unsigned *at, unsigned value) {
  simt::begin_own();
  const unsigned old = *at;
  if (value > old) *at = value;
  simt::end_own();
  return old;
}
inline float __fadd_rn(float a, float b) { return a + b; }
inline float max_or_nan(float a, float b) { return a != a || b != b ? NAN : a > b ? a : b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline float __double2float_rn(double a) { return (float)a; }
inline int __float2int_rn(float a) { return (int)rintf(a); }
inline int __clz(unsigned a) { return a ? __builtin_clz(a) : 32; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline unsigned __float_as_uint(float a) {
  unsigned u;
  memcpy(&u, &a, 4);
  return u;
}
inline float __uint_as_float(unsigned a) {
  float f;
  memcpy(&f, &a, 4);
  return f;
}
