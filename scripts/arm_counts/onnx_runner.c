// Runs a network with ONNX Runtime on one thread, under the counting plugin:  onnx_runner LIBRARY MODEL INPUT OUTPUT CALLS
//
// INPUT holds the network's float32 input, and OUTPUT is to hold its output after the last call. The counts of each call go to standard
// output, a line each. The first call prepares what later ones find.

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// The wheel has no headers: functions of the C interface by their place in its table, which is only ever added to.
enum {
  GET_ERROR_MESSAGE = 2,
  CREATE_ENV = 3,
  CREATE_SESSION = 7,
  RUN = 9,
  CREATE_SESSION_OPTIONS = 10,
  SET_LOG_SEVERITY = 22,
  SET_OPTIMIZATION = 23,
  SET_INTRA_OP_THREADS = 24,
  SET_INTER_OP_THREADS = 25,
  GET_INPUT_TYPE = 33,
  GET_INPUT_NAME = 36,
  GET_OUTPUT_NAME = 37,
  CREATE_TENSOR_WITH_DATA = 49,
  GET_TENSOR_DATA = 51,
  CAST_TO_TENSOR_TYPE = 55,
  GET_DIMENSION_COUNT = 61,
  GET_DIMENSIONS = 62,
  GET_ELEMENT_COUNT = 64,
  GET_TYPE_AND_SHAPE = 65,
  CREATE_CPU_MEMORY_INFO = 69,
  DEFAULT_ALLOCATOR = 78,
  TABLE_VERSION = 1,
};
enum { ERRORS_ONLY = 3, ALL_OPTIMIZATIONS = 99, ARENA = 1, DEFAULT_MEMORY = 0, FLOAT32 = 1, MAX_RANK = 8 };
enum { RESET = 0x7e5700, READ = 0x7e5701 };

typedef struct { const void* (*table)(uint32_t version); const char* (*version)(void); } Base;
typedef void* Status;  // NULL: done
typedef Status (*Call)();

static const Call* table;

static void fail(const char* reason) {
  fprintf(stderr, "%s\n", reason);
  exit(1);
}

static void check(Status status) {
  if (status) fail(((const char* (*)(Status))table[GET_ERROR_MESSAGE])(status));
}

static void print_counts(const char* path) {
  unlink(path);
  syscall(READ);
  FILE* file = fopen(path, "r");
  if (!file) fail("the emulator wrote no counts");
  for (int byte = fgetc(file); byte != EOF; byte = fgetc(file)) putchar(byte);
  fclose(file);
}

static FILE* opened(const char* path, const char* mode) {
  FILE* file = fopen(path, mode);
  if (!file) fail(path);
  return file;
}

int main(int count, char** words) {
  const char* counts = getenv("TVM_RSQ_COUNTS");
  if (count != 6 || !counts) fail("usage: TVM_RSQ_COUNTS=FILE onnx_runner LIBRARY MODEL INPUT OUTPUT CALLS");
  void* library = dlopen(words[1], RTLD_NOW);
  if (!library) fail(dlerror());
  const Base* (*base)(void) = (const Base* (*)(void))dlsym(library, "OrtGetApiBase");
  if (!base || !(table = base()->table(TABLE_VERSION))) fail("the library is no ONNX Runtime that can be used");

  void *environment, *options, *session, *allocator, *memory, *type, *input, *output = NULL, *data;
  const void* tensor_type;
  char *source, *result;
  check(table[CREATE_ENV](ERRORS_ONLY, "count", &environment));
  check(table[CREATE_SESSION_OPTIONS](&options));
  check(table[SET_LOG_SEVERITY](options, ERRORS_ONLY));
  check(table[SET_OPTIMIZATION](options, ALL_OPTIMIZATIONS));
  check(table[SET_INTRA_OP_THREADS](options, 1));
  check(table[SET_INTER_OP_THREADS](options, 1));
  check(table[CREATE_SESSION](environment, words[2], options, &session));
  check(table[DEFAULT_ALLOCATOR](&allocator));
  check(table[GET_INPUT_NAME](session, (size_t)0, allocator, &source));
  check(table[GET_OUTPUT_NAME](session, (size_t)0, allocator, &result));

  int64_t shape[MAX_RANK];
  size_t rank, elements;
  check(table[GET_INPUT_TYPE](session, (size_t)0, &type));
  check(table[CAST_TO_TENSOR_TYPE](type, &tensor_type));
  check(table[GET_DIMENSION_COUNT](tensor_type, &rank));
  if (rank > MAX_RANK) fail("the input has too many axes");
  check(table[GET_DIMENSIONS](tensor_type, shape, rank));
  check(table[GET_ELEMENT_COUNT](tensor_type, &elements));
  float* numbers = malloc(elements * sizeof *numbers);
  FILE* file = opened(words[3], "rb");
  if (!numbers || fread(numbers, sizeof *numbers, elements, file) != elements) fail("the input ends too early");
  fclose(file);
  check(table[CREATE_CPU_MEMORY_INFO](ARENA, DEFAULT_MEMORY, &memory));
  check(table[CREATE_TENSOR_WITH_DATA](memory, numbers, elements * sizeof *numbers, shape, rank, FLOAT32, &input));

  const char *sources[] = {source}, *results[] = {result};
  for (int call = atoi(words[5]); call > 0; call--) {  // the output is made by the first call and filled again by the others
    syscall(RESET);
    check(table[RUN](session, NULL, sources, (const void* const*)&input, (size_t)1, results, (size_t)1, &output));
    print_counts(counts);
  }
  check(table[GET_TYPE_AND_SHAPE](output, &type));
  check(table[GET_ELEMENT_COUNT](type, &elements));
  check(table[GET_TENSOR_DATA](output, &data));
  file = opened(words[4], "wb");
  if (fwrite(data, sizeof(float), elements, file) != elements || fclose(file)) fail("the output cannot be written");
  return 0;
}
