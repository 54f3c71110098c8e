// As much of NVIDIA's driver as scripts/device_run calls, on the CPU's memory: one GPU of sm_90 with 64 KiB of L2.
//
// A "cubin" is the path of a library that tests/targets/emulated_cuda.py made. What is launched while a stream is captured is kept and run
// when its graph is. The clock is made up: every launch and every copy takes 10 microseconds.
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <functional>
#include <string>
#include <vector>

using Calls = std::vector<std::function<void()>>;
struct Function {
    void (*launch)(void**, const unsigned*, const unsigned*);
    int (*parameters)();
};

static Calls* captured = nullptr;
static float clock_us = 0;
static int alive = 0;

static int issue(std::function<void()> call) {
    if (captured) captured->push_back(call);
    else call();
    return 0;
}

extern "C" {
int fake_alive() { return alive; }  // allocations that were not freed

int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int* version) { return *version = 13000, 0; }
int cuDeviceGet(int* device, int) { return *device = 0, 0; }
int cuDeviceGetName(char* name, int size, int) { return strncpy(name, "a CPU", size), 0; }
int cuDeviceGetPCIBusId(char* name, int size, int) { return strncpy(name, "0000:00:00.0", size), 0; }
int cuDeviceGetAttribute(int* value, int which, int) {
    switch (which) {
        case 38: *value = 64 << 10; return 0;
        case 16: *value = 1; return 0;
        case 75: *value = 9; return 0;
        case 76: *value = 0; return 0;
    }
    return 1;
}
int cuDevicePrimaryCtxRetain(void** context, int) { return *context = nullptr, 0; }
int cuCtxSetCurrent(void*) { return 0; }
int cuStreamCreate(void** stream, unsigned) { return *stream = nullptr, 0; }
int cuStreamSynchronize(void*) { return 0; }
int cuGetErrorName(int code, const char** name) { return *name = code == 500 ? "CUDA_ERROR_NOT_FOUND" : "CUDA_ERROR_INVALID_VALUE", 0; }

int cuMemAlloc_v2(uint64_t* pointer, size_t bytes) {
    ++alive;
    *pointer = (uint64_t)aligned_alloc(256, (bytes + 255) / 256 * 256);
    return 0;
}
int cuMemFree_v2(uint64_t pointer) { return --alive, free((void*)pointer), 0; }
int cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t bytes) { return memcpy((void*)to, from, bytes), 0; }
int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t bytes) { return memcpy(to, (void*)from, bytes), 0; }
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void*) {
    return issue([=] { memcpy((void*)to, (void*)from, bytes), clock_us += 10; });
}
int cuMemsetD8Async(uint64_t to, unsigned char byte, size_t bytes, void*) { return issue([=] { memset((void*)to, byte, bytes); }); }

int cuModuleLoadData(void** module, const char* path) { return (*module = dlopen(path, RTLD_NOW)) ? 0 : 200; }
int cuModuleGetFunction(void** function, void* module, const char* symbol) {
    void *launch = dlsym(module, (symbol + std::string("_launch")).c_str()), *count = dlsym(module, (symbol + std::string("_parameters")).c_str());
    if (!launch || !count) return 500;
    *function = new Function{(decltype(Function::launch))launch, (decltype(Function::parameters))count};
    return 0;
}
int cuFuncSetAttribute(void*, int, int) { return 0; }
int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, void*,
                   void** parameters, void**) {
    auto* kernel = (Function*)function;
    std::vector<uint64_t> values;
    for (int i = 0; i < kernel->parameters(); ++i) values.push_back(*(uint64_t*)parameters[i]);
    return issue([=]() mutable {
        std::vector<void*> list;
        for (auto& value : values) list.push_back(&value);
        unsigned grid[] = {gx, gy, gz}, block[] = {bx, by, bz};
        kernel->launch(list.data(), grid, block);
        clock_us += 10;
    });
}

int cuStreamBeginCapture_v2(void*, int) { return captured = new Calls, 0; }
int cuStreamEndCapture(void*, void** graph) { return *graph = captured, captured = nullptr, 0; }
int cuGraphInstantiateWithFlags(void** run, void* graph, uint64_t) { return *run = graph, 0; }
int cuGraphLaunch(void* run, void*) {
    for (auto& call : *(Calls*)run) call();
    return 0;
}
int cuGraphExecDestroy(void*) { return 0; }
int cuGraphDestroy(void* graph) { return delete (Calls*)graph, 0; }
int cuEventCreate(void** event, unsigned) { return *event = new float(0), 0; }
int cuEventRecord(void* event, void*) { return *(float*)event = clock_us, 0; }
int cuEventSynchronize(void*) { return 0; }
int cuEventElapsedTime(float* milliseconds, void* start, void* end) { return *milliseconds = (*(float*)end - *(float*)start) / 1e3f, 0; }
int cuEventDestroy_v2(void* event) { return delete (float*)event, 0; }
}
