// Calls kernels of a library once each, without TVM's runtime: few instructions of its own, and none between measured() and a kernel.
//
//   runner LIBRARY [DATA] < CALLS      a line of CALLS: name, number of tensors, and for each: DLPack type code, bits, rank, extents
//
// Tensors are zero, since no kernel's instructions depend on its data; or they are read from the file DATA, one behind the other, and
// what is in them after the call is written back. Parallel loops run as one task, so a call is that of one thread.

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

static void fail(const char* reason) {
  fprintf(stderr, "%s\n", reason);
  exit(1);
}

static int number(void) {
  int value;
  if (scanf("%d", &value) != 1) fail("a call ends too early");
  return value;
}

// How many bytes it holds.
static size_t read_tensor(DLTensor* tensor, int64_t* shape, FILE* data) {
  tensor->dtype.code = number(), tensor->dtype.bits = number(), tensor->dtype.lanes = 1;
  tensor->ndim = number(), tensor->device.device_type = kDLCPU, tensor->shape = shape;
  size_t bytes = tensor->dtype.bits / 8;
  if (tensor->ndim > MAX_RANK) fail("a tensor has too many axes");
  for (int axis = 0; axis < tensor->ndim; axis++) bytes *= shape[axis] = number();
  tensor->data = memset(aligned(bytes), 0, bytes);
  if (data && fread(tensor->data, 1, bytes, data) != bytes) fail("the data ends too early");
  return bytes;
}

int main(int count, char** words) {
  void* library = count == 2 || count == 3 ? dlopen(words[1], RTLD_NOW) : NULL;
  if (!library) {
    fprintf(stderr, "no library: %s\n", count == 2 || count == 3 ? dlerror() : "expected one or two arguments");
    return 1;
  }
  FILE* data = count == 3 ? fopen(words[2], "r+b") : NULL;
  if (count == 3 && !data) fail("the data cannot be opened");
  provide(library, "__TVMBackendParallelLaunch", parallel_launch);
  provide(library, "__TVMBackendAllocWorkspace", alloc_workspace);
  provide(library, "__TVMBackendFreeWorkspace", free_workspace);

  char name[256];
  while (scanf("%255s", name) == 1) {
    int tensors = number();
    DLTensor tensor[MAX_TENSORS] = {0};
    int64_t shape[MAX_TENSORS][MAX_RANK];
    size_t bytes[MAX_TENSORS];
    TVMFFIAny arguments[MAX_TENSORS] = {0};
    long start = data ? ftell(data) : 0;
    void* kernel = dlsym(library, name);
    if (!kernel || tensors > MAX_TENSORS) {
      fprintf(stderr, "%s cannot be called\n", name);
      return 1;
    }
    for (int i = 0; i < tensors; i++) {
      bytes[i] = read_tensor(&tensor[i], shape[i], data);
      arguments[i].type_index = kTVMFFIDLTensorPtr;
      arguments[i].v_ptr = &tensor[i];
    }
    if (measured((TVMFFISafeCallType)kernel, arguments, tensors)) {
      fprintf(stderr, "%s failed\n", name);
      return 1;
    }
    if (data) fseek(data, start, SEEK_SET);
    for (int i = 0; i < tensors; i++) {
      if (data && fwrite(tensor[i].data, 1, bytes[i], data) != bytes[i]) fail("the data cannot be written");
      free(tensor[i].data);
    }
    if (data) fseek(data, 0, SEEK_CUR);  // between writing and reading
  }
  if (data && fclose(data)) fail("the data cannot be written");
  return 0;
}
