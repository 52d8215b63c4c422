// A stand-in for libcuda.so on machines without a GPU, for tests: the calls that the host code
// makes, with memory of the device on the heap and kernels run by simt.h. It takes the real PTX and
// refuses what the driver would refuse: a kernel that the PTX lacks or that takes another number of
// arguments, more threads than .maxntid, more than 48 KB of shared memory without asking, a grid
// that is empty or too high. Never built by cargo, never shipped.
//
// Faults, by environment: SIMULATED_DEVICES=0 (no device), SIMULATED_VERSION=12080 (old driver),
// SIMULATED_MEMORY=BYTES (of the device), SIMULATED_SHARED=BYTES (for a thread block),
// SIMULATED_LAUNCHES=N (the launch after N fails).
#include "simt.h"
#include "hadamard.cu"
#include "general.cu"
#include "kashin.cu"
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <string>

typedef int Result;
typedef unsigned long long Address;

enum : Result {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  INVALID_PTX = 218,
  NOT_FOUND = 500,
  LAUNCH_FAILED = 719,
};

// cuDeviceGetAttribute and cuFuncSetAttribute.
enum { MAX_THREADS = 1, WARP_SIZE = 10, MAJOR = 75, MINOR = 76, MAX_SHARED_OPT_IN = 97 };
enum { FUNCTION_MAX_DYNAMIC_SHARED = 8 };
const int SHARED_DEFAULT = 48 << 10;

struct Entry {
  std::function<void(simt::Index, simt::Index, size_t, void **)> run;
  size_t n_arguments;
};

template <class... A> Entry entry(void (*kernel)(A...)) {
  auto run = [kernel](simt::Index grid, simt::Index block, size_t shared, void **arguments) {
    simt::launch_kernel(kernel, grid, block, shared, arguments);
  };
  return {run, sizeof...(A)};
}

#define ENTRY(kernel) {#kernel, entry(kernel)}
#define ENTRIES(K) ENTRY(encode_blocks_##K), ENTRY(decode_blocks_##K)

static const std::map<std::string, Entry> &entries() {
  static const std::map<std::string, Entry> all = {
      ENTRIES(8),          ENTRIES(9),           ENTRIES(10),         ENTRIES(11),
      ENTRIES(12),         ENTRIES(13),          ENTRIES(14),         ENTRIES(15),
      ENTRY(encode_units), ENTRY(encode_scales), ENTRY(encode_codes), ENTRY(decode_codes),
      ENTRY(decode_units), ENTRY(put_values),
      ENTRY(represent_blocks_8),  ENTRY(represent_blocks_9),  ENTRY(represent_blocks_10),
      ENTRY(represent_blocks_11), ENTRY(represent_blocks_12), ENTRY(represent_blocks_13),
      ENTRY(represent_blocks_14)};
  return all;
}

struct Module {
  std::string ptx;
};

struct Function {
  const Entry *entry;
  unsigned max_threads;
  int max_shared;
};

static long long setting(const char *name, long long otherwise) {
  const char *text = getenv(name);
  return text ? atoll(text) : otherwise;
}

// Bytes of shared memory that a kernel may ask for.
static int shared_opt_in() { return (int)setting("SIMULATED_SHARED", 232448); }

static std::mutex lock;
static std::map<Address, size_t> allocations;
static size_t allocated = 0;
static std::atomic<long long> launches{0};
static char handle;

#define CALL extern "C" __attribute__((visibility("default"))) Result

// ---- Device and context -------------------------------------------------------------------------

CALL cuInit(unsigned) { return setting("SIMULATED_DEVICES", 1) ? SUCCESS : NO_DEVICE; }
CALL cuDriverGetVersion(int *version) {
  *version = (int)setting("SIMULATED_VERSION", 13000);
  return SUCCESS;
}
CALL cuDeviceGetCount(int *count) {
  *count = (int)setting("SIMULATED_DEVICES", 1);
  return SUCCESS;
}
CALL cuDeviceGet(int *device, int ordinal) {
  *device = 0;
  return ordinal < setting("SIMULATED_DEVICES", 1) ? SUCCESS : INVALID_DEVICE;
}
CALL cuDeviceGetName(char *name, int size, int) {
  snprintf(name, size, "simulated on the processor");
  return SUCCESS;
}
CALL cuDeviceGetAttribute(int *value, int attribute, int) {
  switch (attribute) {
    case MAX_THREADS: *value = 1024; break;
    case WARP_SIZE: *value = 32; break;
    case MAJOR: *value = (int)setting("SIMULATED_CAPABILITY", 90) / 10; break;
    case MINOR: *value = (int)setting("SIMULATED_CAPABILITY", 90) % 10; break;
    case MAX_SHARED_OPT_IN: *value = shared_opt_in(); break;
    default: *value = 0;
  }
  return SUCCESS;
}
CALL cuDevicePrimaryCtxRetain(void **context, int) {
  *context = &handle;
  return SUCCESS;
}
CALL cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
CALL cuCtxSetCurrent(void *) { return SUCCESS; }
CALL cuCtxGetCurrent(void **context) {
  *context = &handle;
  return SUCCESS;
}
CALL cuCtxSynchronize() { return SUCCESS; }

// ---- Memory ---------------------------------------------------------------------------------------

static size_t capacity() { return (size_t)setting("SIMULATED_MEMORY", 1ll << 40); }

CALL cuMemGetInfo_v2(size_t *available, size_t *total) {
  std::lock_guard<std::mutex> hold(lock);
  *total = capacity();
  *available = *total - allocated;
  return SUCCESS;
}
CALL cuMemAlloc_v2(Address *address, size_t bytes) {
  if (bytes == 0) return INVALID_VALUE;
  std::lock_guard<std::mutex> hold(lock);
  void *memory = nullptr;
  if (allocated + bytes > capacity() || posix_memalign(&memory, 256, bytes)) return OUT_OF_MEMORY;
  memset(memory, 0x5C, bytes);
  *address = (Address)memory;
  allocations[*address] = bytes;
  allocated += bytes;
  return SUCCESS;
}
CALL cuMemFree_v2(Address address) {
  std::lock_guard<std::mutex> hold(lock);
  auto found = allocations.find(address);
  if (found == allocations.end()) return INVALID_VALUE;
  allocated -= found->second;
  allocations.erase(found);
  free((void *)address);
  return SUCCESS;
}

// Whether all of it lies in one allocation.
static bool is_device_memory(Address address, size_t bytes) {
  std::lock_guard<std::mutex> hold(lock);
  auto next = allocations.upper_bound(address);
  if (next == allocations.begin()) return false;
  --next;
  return address + bytes <= next->first + next->second;
}

CALL cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *) {
  if (!is_device_memory(to, bytes)) return INVALID_VALUE;
  memcpy((void *)to, from, bytes);
  return SUCCESS;
}
CALL cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *) {
  if (!is_device_memory(from, bytes)) return INVALID_VALUE;
  memcpy(to, (void *)from, bytes);
  return SUCCESS;
}
CALL cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *) {
  if (!is_device_memory(to, bytes) || !is_device_memory(from, bytes)) return INVALID_VALUE;
  memcpy((void *)to, (void *)from, bytes);
  return SUCCESS;
}
CALL cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void *) {
  if (!is_device_memory(to, bytes)) return INVALID_VALUE;
  memset((void *)to, value, bytes);
  return SUCCESS;
}

// ---- Streams and events: everything is done when the call returns ---------------------------------

CALL cuStreamCreate(void **stream, unsigned) {
  *stream = &handle;
  return SUCCESS;
}
CALL cuStreamDestroy_v2(void *) { return SUCCESS; }
CALL cuStreamSynchronize(void *) { return SUCCESS; }
CALL cuStreamWaitEvent(void *, void *, unsigned) { return SUCCESS; }

typedef std::chrono::steady_clock Clock;

CALL cuEventCreate(void **event, unsigned) {
  *event = new Clock::time_point();
  return SUCCESS;
}
CALL cuEventDestroy_v2(void *event) {
  delete (Clock::time_point *)event;
  return SUCCESS;
}
CALL cuEventRecord(void *event, void *) {
  *(Clock::time_point *)event = Clock::now();
  return SUCCESS;
}
CALL cuEventSynchronize(void *) { return SUCCESS; }
CALL cuEventQuery(void *) { return SUCCESS; }
CALL cuEventElapsedTime_v2(float *milliseconds, void *start, void *end) {
  const auto time = *(Clock::time_point *)end - *(Clock::time_point *)start;
  *milliseconds = std::chrono::duration<float, std::milli>(time).count();
  return SUCCESS;
}

// ---- Kernels ----------------------------------------------------------------------------------------

CALL cuModuleLoadData(void **module, const void *image) {
  std::string ptx((const char *)image);
  if (ptx.find(".version ") == std::string::npos) return INVALID_PTX;
  *module = new Module{std::move(ptx)};
  return SUCCESS;
}
CALL cuModuleUnload(void *module) {
  delete (Module *)module;
  return SUCCESS;
}
CALL cuModuleGetFunction(void **function, void *module, const char *name) {
  const std::string &ptx = ((Module *)module)->ptx;
  const size_t at = ptx.find(".visible .entry " + std::string(name) + "(");
  const auto found = entries().find(name);
  if (at == std::string::npos || found == entries().end()) return NOT_FOUND;
  const std::string head = ptx.substr(at, ptx.find('{', at) - at);
  size_t n_arguments = 0;
  for (size_t i = head.find(".param "); i != std::string::npos; i = head.find(".param ", i + 1)) ++n_arguments;
  const size_t limit = head.find(".maxntid ");
  if (n_arguments != found->second.n_arguments || limit == std::string::npos) return NOT_FOUND;
  const unsigned max_threads = atoi(head.c_str() + limit + 9);
  // Lives as long as the process: a module may be unloaded while handles to it are around.
  *function = new Function{&found->second, max_threads, SHARED_DEFAULT};
  return SUCCESS;
}
CALL cuFuncSetAttribute(void *function, int attribute, int value) {
  if (attribute != FUNCTION_MAX_DYNAMIC_SHARED || value > shared_opt_in()) return INVALID_VALUE;
  ((Function *)function)->max_shared = value;
  return SUCCESS;
}
CALL cuLaunchKernel(void *handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                    unsigned block_y, unsigned block_z, unsigned shared, void *, void **arguments, void **) {
  const Function &function = *(Function *)handle;
  const unsigned threads = block_x * block_y * block_z;
  if (!grid_x || !grid_y || grid_y > 65535 || grid_z != 1) return INVALID_VALUE;
  if (!threads || threads > function.max_threads || (int)shared > function.max_shared) return INVALID_VALUE;
  const long long limit = setting("SIMULATED_LAUNCHES", -1);
  if (limit >= 0 && launches++ >= limit) return LAUNCH_FAILED;
  function.entry->run({grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, arguments);
  return SUCCESS;
}

// ---- Errors -------------------------------------------------------------------------------------------

struct Text {
  Result code;
  const char *name, *text;
};
static const Text TEXTS[] = {
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
};
static const Text *text_of(Result code) {
  for (const Text &text : TEXTS) {
    if (text.code == code) return &text;
  }
  return nullptr;
}
CALL cuGetErrorName(Result code, const char **name) {
  const Text *text = text_of(code);
  if (text) *name = text->name;
  return text ? SUCCESS : INVALID_VALUE;
}
CALL cuGetErrorString(Result code, const char **string) {
  const Text *text = text_of(code);
  if (text) *string = text->text;
  return text ? SUCCESS : INVALID_VALUE;
}
