"""CUDA kernels without a GPU: run by this machine's CPU as TIR, one thread after another, or as the CUDA source that TVM makes of them.

What __byte_perm does is written down twice, from two documents of NVIDIA. As TIR it is the instruction behind it, PRMT, as in the PTX ISA:
three bits of a nibble choose a byte, and the fourth replicates its sign over all eight bits. In the source it is the function of the CUDA
math API, which ignores the fourth bit. Kernels have to be right by both.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
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

from tvm_rsq.targets.cuda.kernel_source import CudaKernel, cuda_source


def emulated(prim_func: PrimFunc) -> PrimFunc:
    """`prim_func` for a CPU: loops over blocks and threads are plain loops, and byte permutes plain arithmetic.

    A loop over threads ends where the block waits for all of them: what the next one reads from shared memory is there.
    """

    def serial(loop: For) -> For:
        if loop.kind != ForKind.THREAD_BINDING:
            return loop
        return For(loop.loop_var, loop.min, loop.extent, ForKind.SERIAL, loop.body)

    def replace(call: Call) -> Expr:
        is_permute = getattr(call.op, "name", "") == "tirx.call_pure_extern" and call.args[0].value == "__byte_perm"
        return _permute(*call.args[1:]) if is_permute else call

    return prim_func.with_body(tvm_ffi.structural_map(prim_func.body, [(Call, replace), (For, serial)]))


def run_here(prim_func: PrimFunc, *arrays: np.ndarray) -> np.ndarray:
    """The last array, an output, after the emulated function has run."""
    run = tvm.compile(tvm.IRModule({"main": emulated(prim_func)}), target=Target({"kind": "llvm"})).mod["main"]
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    run(*tensors)
    return tensors[-1].numpy()


def run_source_here(prim_func: PrimFunc, folder: Path, *arrays: np.ndarray) -> np.ndarray:
    """As `run_here`, of the source that TVM makes, compiled as C++."""
    kernel = cuda_source({"main": prim_func}).kernels["main"]
    launch = ctypes.CDLL(str(compile_here([kernel], folder)))[f"{kernel.symbol}_launch"]
    pointers = [ctypes.c_void_p(arrays[parameter.buffer].ctypes.data) for parameter in kernel.parameters]
    launch((ctypes.c_void_p * len(pointers))(*map(ctypes.addressof, pointers)), _extents(kernel.grid), _extents(kernel.block))
    return arrays[-1]


def compile_here(kernels: Iterable[CudaKernel], folder: Path) -> Path:
    """A library with, for each kernel, SYMBOL_launch(void* parameters[], uint grid[3], uint block[3]), as cuLaunchKernel has them, and
    int SYMBOL_parameters(), how many there are.

    Each block runs twice, one thread after another: the second time, all that they exchange is in shared memory from the start.
    Skips the test where there is no compiler.
    """
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs g++ or clang++, to run CUDA source on the CPU")
    source, library = folder / "kernels.cc", folder / "kernels.so"
    source.write_text(_CUDA + "".join(kernel.text + "\n" + _launcher(kernel) for kernel in kernels))
    options = ["-shared", "-fPIC", "-std=c++17", "-O1", "-w", "-fno-strict-aliasing"]
    subprocess.run([compiler, *options, "-o", library, source], check=True)
    return library


def _launcher(kernel: CudaKernel) -> str:
    arguments = (f"*({parameter.kind}*)parameters[{i}]" for i, parameter in enumerate(kernel.parameters))
    counted = f'extern "C" int {kernel.symbol}_parameters() {{ return {len(kernel.parameters)}; }}\n'
    return counted + _LAUNCH % (kernel.symbol, f"{kernel.symbol}({', '.join(arguments)})")


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


_CUDA = """
typedef unsigned char uchar; typedef unsigned int uint; typedef unsigned short ushort;
struct short4 { short x, y, z, w; }; struct short2 { short x, y; };
struct alignas(8) int2 { int x, y; }; struct alignas(8) uint2 { uint x, y; };
struct alignas(16) int4 { int x, y, z, w; }; struct alignas(16) uint4 { uint x, y, z, w; };
static uint2 make_uint2(uint x, uint y) { return {x, y}; }
static uint4 make_uint4(uint x, uint y, uint z, uint w) { return {x, y, z, w}; }
static struct { uint x, y, z; } blockIdx, threadIdx;
#define alignas(bytes)
#define __global__
#define __launch_bounds__(threads)
#define __shared__ static
static void __syncthreads() {}
static uint __byte_perm(uint x, uint y, uint s) {
    uchar input[8]; uint r = 0;
    for (int i = 0; i < 4; ++i) { input[i] = x >> 8 * i; input[4 + i] = y >> 8 * i; }
    for (int n = 0; n < 4; ++n) r |= (uint)input[s >> 4 * n & 7] << 8 * n;
    return r;
}
"""
_LAUNCH = """
extern "C" void %s_launch(void** parameters, const uint* grid, const uint* block) {
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x)
        for (int time = 0; time < 2; ++time)
            for (threadIdx.z = 0; threadIdx.z < block[2]; ++threadIdx.z)
            for (threadIdx.y = 0; threadIdx.y < block[1]; ++threadIdx.y)
            for (threadIdx.x = 0; threadIdx.x < block[0]; ++threadIdx.x) %s;
}
"""
