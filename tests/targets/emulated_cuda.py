"""CUDA kernels without a GPU: run by this machine's CPU as TIR, one thread after another, or as the CUDA source that TVM makes of them.

What __byte_perm does is written down twice, from two documents of NVIDIA. As TIR it is the instruction behind it, PRMT, as in the PTX ISA:
three bits of a nibble choose a byte, and the fourth replicates its sign over all eight bits. In the source it is the function of the CUDA
math API, which ignores the fourth bit. Kernels have to be right by both.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call, Expr
from tvm.target import Target
from tvm.tirx import For, ForKind, PrimFunc

from tests.targets.guarded_memory import Guarded
from tvm_rsq.targets.cuda.kernel_source import CudaKernel, cuda_source


def emulated(prim_func: PrimFunc) -> PrimFunc:
    """`prim_func` for a CPU: loops over blocks and threads are plain loops, byte permutes plain arithmetic, an fma LLVM's.

    A loop over threads ends where the block waits for all of them: what the next one reads from shared memory is there.
    """

    def serial(loop: For) -> For:
        if loop.kind != ForKind.THREAD_BINDING:
            return loop
        return For(loop.loop_var, loop.min, loop.extent, ForKind.SERIAL, loop.body)

    def replace(call: Call) -> Expr:
        name = call.args[0].value if getattr(call.op, "name", "") == "tirx.call_pure_extern" else ""
        if name == "__fmaf_rn":
            return tirx.call_llvm_pure_intrin("float32", "llvm.fma", *call.args[1:])
        return _permute(*call.args[1:]) if name == "__byte_perm" else call

    return prim_func.with_body(tvm_ffi.structural_map(prim_func.body, [(Call, replace), (For, serial)]))


def run_here(prim_func: PrimFunc, *arrays: np.ndarray) -> np.ndarray:
    """The last array, an output, after the emulated function has run."""
    run = tvm.compile(tvm.IRModule({"main": emulated(prim_func)}), target=Target({"kind": "llvm"})).mod["main"]
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    run(*tensors)
    return tensors[-1].numpy()


def run_source_here(prim_func: PrimFunc, folder: Path, *arrays: np.ndarray, arch: int = 900) -> np.ndarray:
    """As `run_here`, of the source that TVM makes, compiled as C++. What reads or writes beyond an array ends the process.

    arch  as in __CUDA_ARCH__
    """
    kernel = cuda_source({"main": prim_func}).kernels["main"]
    library = ctypes.CDLL(str(compile_here([kernel], folder, arch)))
    found = []
    for place in ("begins", "ends"):
        held = [Guarded(array, place) for array in arrays]
        launch(library, kernel, [each.address for each in held])
        found.append(held[-1].value())
        for each in held:
            each.free()
    np.testing.assert_array_equal(*found)
    return found[0]


def launch(library: ctypes.CDLL, kernel: CudaKernel, addresses: Sequence[int]) -> None:
    """Run one of `compile_here`'s, on the buffers of its function at these addresses."""
    pointers = [ctypes.c_void_p(addresses[parameter.buffer]) for parameter in kernel.parameters]
    arguments = (ctypes.c_void_p * len(pointers))(*map(ctypes.addressof, pointers))
    library[f"{kernel.symbol}_launch"](arguments, _extents(kernel.grid), _extents(kernel.block))


def is_of_threads(prim_func: PrimFunc) -> bool:
    """Whether it is made for a GPU."""
    return "threadIdx.x" in str(prim_func.body)


def compile_here(kernels: Iterable[CudaKernel], folder: Path, arch: int = 900) -> Path:
    """A library with, for each kernel, SYMBOL_launch(void* parameters[], uint grid[3], uint block[3]), as cuLaunchKernel has them, and
    int SYMBOL_parameters(), how many there are.

    A block's threads take turns, each as far as it comes without the others.
    Skips the test where there is no compiler.
    """
    prelude = _prelude(arch)
    source, library = folder / "kernels.cc", folder / "kernels.so"
    kernels = list(kernels)
    functions = dict.fromkeys(function for kernel in kernels for function in kernel.functions)
    source.write_text("\n".join([*functions, *(kernel.text + "\n" + _launcher(kernel) for kernel in kernels)]))
    subprocess.run([*_compiler(arch), "-include", prelude, "-shared", "-o", library, source], check=True)
    return library


def _compiler(arch: int) -> list[str]:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs g++ or clang++, to run CUDA source on the CPU")
    return [compiler, f"-D__CUDA_ARCH__={arch}", "-fPIC", "-std=c++17", "-O1", "-w", "-fno-strict-aliasing"]


@functools.cache
def _prelude(arch: int) -> Path:
    """What CUDA brings along, as a header that is compiled beforehand: a third of the time that a kernel takes."""
    header = Path(tempfile.mkdtemp(prefix="tvm-rsq-test-")) / "cuda.h"
    atexit.register(shutil.rmtree, header.parent, ignore_errors=True)
    header.write_text(_CUDA)
    subprocess.run([*_compiler(arch), "-x", "c++-header", "-o", f"{header}.gch", header], check=True)
    return header


def _launcher(kernel: CudaKernel) -> str:
    arguments = (f"*({parameter.kind}*)parameters[{i}]" for i, parameter in enumerate(kernel.parameters))
    counted = f'extern "C" int {kernel.symbol}_parameters() {{ return {len(kernel.parameters)}; }}\n'
    return counted + _LAUNCH % {"symbol": kernel.symbol, "call": f"{kernel.symbol}({', '.join(arguments)})"}


def _extents(extents: tuple[int, int, int]) -> ctypes.Array:
    return (ctypes.c_uint * 3)(*extents)


def _permute(low: Expr, high: Expr, selector: Expr) -> Expr:
    def each(values: Sequence[int]) -> Expr:
        return tirx.Shuffle([tirx.const(value, "uint32") for value in values], list(range(4)))

    # Its operands are long expressions that are not to be repeated much: all four bytes at once.
    eight = tirx.Broadcast(high.astype("uint64") << tirx.const(32, "uint64") | low.astype("uint64"), 4)
    nibbles = tirx.Broadcast(selector, 4) >> each((0, 4, 8, 12)) & each((15,) * 4)
    found = (eight >> ((nibbles & each((7,) * 4)) * each((8,) * 4)).astype("uint64x4")).astype("int8x4")
    # An int8 shifted right by seven bits is its sign in all eight.
    return tirx.reinterpret("uint32", found >> ((nibbles >> each((3,) * 4)) * each((7,) * 4)).astype("int8x4"))


_CUDA = r"""
#include <ucontext.h>
#include <vector>
#include <cmath>
#include <cstring>
#include <algorithm>
typedef unsigned char uchar; typedef unsigned int uint; typedef unsigned short ushort;
using std::min; using std::max;
struct char4 { signed char x, y, z, w; }; struct char2 { signed char x, y; };
struct short4 { short x, y, z, w; }; struct short2 { short x, y; };
struct alignas(8) int2 { int x, y; }; struct alignas(8) uint2 { uint x, y; };
struct alignas(16) int4 { int x, y, z, w; }; struct alignas(16) uint4 { uint x, y, z, w; };
struct alignas(8) float2 { float x, y; }; struct alignas(16) float4 { float x, y, z, w; };
static uint2 make_uint2(uint x, uint y) { return {x, y}; }
static uint4 make_uint4(uint x, uint y, uint z, uint w) { return {x, y, z, w}; }
static float2 make_float2(float x, float y) { return {x, y}; }
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
struct Place { uint x, y, z; };
static Place blockIdx, threadIdx;
#define RSQ_EMULATED
#define alignas(bytes)
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__ static

// A block's threads take turns, each until it waits for others.
struct Barrier { uint arrived = 0, times = 0; };
struct Thread { ucontext_t context; std::vector<char> stack; Place place; bool ended = false; };
static std::vector<Thread> threads;
static ucontext_t scheduler;
static uint running, unended;
static Barrier of_block;
static void yield() { swapcontext(&threads[running].context, &scheduler); }
static void wait(Barrier& barrier, uint count) {
    uint times = barrier.times;
    if (++barrier.arrived == count) { barrier.arrived = 0; ++barrier.times; }
    while (barrier.times == times) yield();
}
static void __syncthreads() { wait(of_block, unended); }
static void (*body)();
static void enter() { body(); threads[running].ended = true; --unended; }
static void run_block(Place block) {
    threads.clear();
    threads.resize(block.x * block.y * block.z);
    unended = threads.size();
    of_block = Barrier();
    for (uint i = 0; i < threads.size(); ++i) {
        Thread& t = threads[i];
        t.place = {i % block.x, i / block.x % block.y, i / block.x / block.y};
        t.stack.resize(1 << 16);
        getcontext(&t.context);
        t.context.uc_stack.ss_sp = t.stack.data();
        t.context.uc_stack.ss_size = t.stack.size();
        t.context.uc_link = &scheduler;
        makecontext(&t.context, enter, 0);
    }
    while (unended)
        for (running = 0; running < threads.size(); ++running)
            if (!threads[running].ended) { threadIdx = threads[running].place; swapcontext(&scheduler, &threads[running].context); }
}

// mma.m16n8k32 and mma.m8n8k16 of signed bytes, as the PTX ISA lays their operands out: the last lane to come computes for all 32.
struct Operands { int* c; const uint *upper, *lower, *b; };
static Operands lanes[32][32];
static Barrier of_warp[32];
template <typename Multiply> static void together(Operands own, Multiply multiply) {
    uint warp = running / 32;
    lanes[warp][running % 32] = own;
    if (of_warp[warp].arrived == 31) multiply(lanes[warp]);
    wait(of_warp[warp], 32);
}
static void rsq_emulated_m16n8k32(int* c, const uint* upper, const uint* lower, const uint* b) {
    together({c, upper, lower, b}, [](Operands* of) {
        signed char A[16][32], B[32][8];
        for (uint lane = 0; lane < 32; ++lane)
            for (uint half = 0; half < 2; ++half) {
                memcpy(&A[lane / 4][16 * half + lane % 4 * 4], of[lane].upper + half, 4);
                memcpy(&A[lane / 4 + 8][16 * half + lane % 4 * 4], of[lane].lower + half, 4);
                for (uint i = 0; i < 4; ++i) B[16 * half + lane % 4 * 4 + i][lane / 4] = (signed char)(of[lane].b[half] >> 8 * i);
            }
        for (uint lane = 0; lane < 32; ++lane)
            for (uint i = 0; i < 4; ++i) {
                uint sum = of[lane].c[i], row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
                for (uint k = 0; k < 32; ++k) sum += (int)A[row][k] * (int)B[k][column];
                of[lane].c[i] = (int)sum;
            }
    });
}
static void rsq_emulated_m8n8k16(int* c, uint a, uint b) {
    together({c, &a, nullptr, &b}, [](Operands* of) {
        signed char A[8][16], B[16][8];
        for (uint lane = 0; lane < 32; ++lane)
            for (uint i = 0; i < 4; ++i) {
                A[lane / 4][lane % 4 * 4 + i] = (signed char)(*of[lane].upper >> 8 * i);
                B[lane % 4 * 4 + i][lane / 4] = (signed char)(*of[lane].b >> 8 * i);
            }
        for (uint lane = 0; lane < 32; ++lane)
            for (uint i = 0; i < 2; ++i) {
                uint sum = of[lane].c[i];
                for (uint k = 0; k < 16; ++k) sum += (int)A[lane / 4][k] * (int)B[k][lane % 4 * 2 + i];
                of[lane].c[i] = (int)sum;
            }
    });
}
static float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; ++i) c += (int)(signed char)(a >> 8 * i) * (int)(signed char)(b >> 8 * i);
    return c;
}
static uint __funnelshift_r(uint low, uint high, uint shift) { return ((unsigned long long)high << 32 | low) >> (shift & 31); }
static uint __byte_perm(uint x, uint y, uint s) {
    uchar input[8]; uint r = 0;
    for (int i = 0; i < 4; ++i) { input[i] = x >> 8 * i; input[4 + i] = y >> 8 * i; }
    for (int n = 0; n < 4; ++n) r |= (uint)input[s >> 4 * n & 7] << 8 * n;
    return r;
}
"""
_LAUNCH = """
static void** %(symbol)s_arguments;
static void %(symbol)s_body() { void** parameters = %(symbol)s_arguments; %(call)s; }
extern "C" void %(symbol)s_launch(void** parameters, const uint* grid, const uint* block) {
    body = %(symbol)s_body;
    %(symbol)s_arguments = parameters;
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x) run_block({block[0], block[1], block[2]});
}
"""
