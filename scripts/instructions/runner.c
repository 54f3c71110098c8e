// Calls kernels of a library once each, without TVM's runtime: few instructions of its own, and none between measured() and a kernel.
//
//   runner LIBRARY < CALLS      a line of CALLS: name, number of tensors, and for each: DLPack type code, bits, rank, extents
//
// Tensors are zero: no kernel's instructions depend on its data. Parallel loops run as one task, so a call is that of one thread.

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/c_api.h>

enum { MAX_TENSORS = 16, MAX_RANK = 8, ALIGNMENT = 64 };

typedef int (*Lambda)(int task, void* environment, void* closure);

static int parallel_launch(Lambda lambda, void* closure, int tasks) {
  struct { void* handle; int32_t tasks; } environment = {NULL, 1};
  (void)tasks;
  return lambda(0, &environment, closure);
}

static void* aligned(size_t bytes) {
  bytes = (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
  void* found = aligned_alloc(ALIGNMENT, bytes);
  if (!found) {
    fprintf(stderr, "%zu bytes are not to be had\n", bytes);
    exit(1);
  }
  return found;
}

static void* alloc_workspace(int device, int id, uint64_t bytes, int code, int bits) {
  (void)device, (void)id, (void)code, (void)bits;
  return aligned(bytes);
}

static int free_workspace(int device, int id, void* workspace) {
  (void)device, (void)id;
  free(workspace);
  return 0;
}

// What the library itself calls when its arguments are refused.
void TVMFFIErrorSetRaisedFromCStrParts(const char* kind, const char** parts, int32_t count) {
  fprintf(stderr, "%s: ", kind);
  for (int32_t i = 0; i < count; i++) {
    if (parts[i]) fputs(parts[i], stderr);
  }
  fputc('\n', stderr);
}

// Callgrind collects inside this function and dumps at its end.
__attribute__((noinline)) int measured(TVMFFISafeCallType kernel, TVMFFIAny* arguments, int count) {
  TVMFFIAny result = {0};
  int status = kernel(NULL, arguments, count, &result);
  __asm__ volatile("" ::: "memory");  // no tail call
  return status;
}

static void provide(void* library, const char* name, void* function) {
  void** slot = dlsym(library, name);
  if (slot) *slot = function;
}

static int number(void) {
  int value;
  if (scanf("%d", &value) != 1) {
    fputs("a call ends too early\n", stderr);
    exit(1);
  }
  return value;
}

static void read_tensor(DLTensor* tensor, int64_t* shape) {
  tensor->dtype.code = number(), tensor->dtype.bits = number(), tensor->dtype.lanes = 1;
  tensor->ndim = number(), tensor->device.device_type = kDLCPU, tensor->shape = shape;
  size_t bytes = tensor->dtype.bits / 8;
  if (tensor->ndim > MAX_RANK) {
    fputs("a tensor has too many axes\n", stderr);
    exit(1);
  }
  for (int axis = 0; axis < tensor->ndim; axis++) bytes *= shape[axis] = number();
  tensor->data = memset(aligned(bytes), 0, bytes);
}

int main(int count, char** words) {
  void* library = count == 2 ? dlopen(words[1], RTLD_NOW) : NULL;
  if (!library) {
    fprintf(stderr, "no library: %s\n", count == 2 ? dlerror() : "expected one argument");
    return 1;
  }
  provide(library, "__TVMBackendParallelLaunch", parallel_launch);
  provide(library, "__TVMBackendAllocWorkspace", alloc_workspace);
  provide(library, "__TVMBackendFreeWorkspace", free_workspace);

  char name[256];
  while (scanf("%255s", name) == 1) {
    int tensors = number();
    DLTensor tensor[MAX_TENSORS] = {0};
    int64_t shape[MAX_TENSORS][MAX_RANK];
    TVMFFIAny arguments[MAX_TENSORS] = {0};
    void* kernel = dlsym(library, name);
    if (!kernel || tensors > MAX_TENSORS) {
      fprintf(stderr, "%s cannot be called\n", name);
      return 1;
    }
    for (int i = 0; i < tensors; i++) {
      read_tensor(&tensor[i], shape[i]);
      arguments[i].type_index = kTVMFFIDLTensorPtr;
      arguments[i].v_ptr = &tensor[i];
    }
    if (measured((TVMFFISafeCallType)kernel, arguments, tensors)) {
      fprintf(stderr, "%s failed\n", name);
      return 1;
    }
    for (int i = 0; i < tensors; i++) free(tensor[i].data);
  }
  return 0;
}
