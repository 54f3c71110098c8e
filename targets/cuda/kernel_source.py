"""CUDA kernels as whoever launches them without TVM needs them: their source, and how each is called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm.target import Target
from tvm.tirx import For, PrimFunc

_DEFINITION = re.compile(r'^extern "C" __global__ [^;{]*? (?P<symbol>\w+)\((?P<parameters>[^;{()]*)\) \{.*?^\}', re.M | re.S)
_FUNCTION = re.compile(r"^__device__ __forceinline__ \w.*?^\}", re.M | re.S)
Extents = tuple[int, int, int]  # x, y, z


@dataclass(frozen=True, slots=True)
class Parameter:
    """Of a kernel: a pointer, its type in C, and which of the PrimFunc's buffers it points to."""

    kind: str
    buffer: int


@dataclass(frozen=True, slots=True)
class CudaKernel:
    """symbol     its C name
    text       its definition alone, without what it includes
    functions  those of device code that it may call
    """

    symbol: str
    grid: Extents
    block: Extents
    parameters: tuple[Parameter, ...]
    text: str
    functions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CudaSource:
    """`text` defines all kernels; they are named as the functions were."""

    text: str
    kernels: dict[str, CudaKernel]


def cuda_source(prim_funcs: Mapping[str, PrimFunc], arch: str = "sm_80") -> CudaSource:
    """What TVM makes of scheduled functions, each of which is one kernel whose parameters are buffers.

    ValueError: a function became several kernels or none, or parameters of its kernel are no buffers of its own.
    """
    target = Target({"kind": "cuda", "arch": arch}, host={"kind": "llvm"})
    named = {name: f.with_attr("global_symbol", name) for name, f in prim_funcs.items()}
    with target:
        (device,) = (m for m in tvm.compile(tvm.IRModule(named), target=target).mod.imports if m.kind.startswith("cuda"))
    text = device.inspect_source("cuda")
    found = {each["symbol"]: each for each in _DEFINITION.finditer(text)}
    if found.keys() != {f"{name}_kernel" for name in prim_funcs}:
        raise ValueError(f"kernels {sorted(found)}, expected one of each of {sorted(prim_funcs)}")
    functions = tuple(_FUNCTION.findall(text))
    return CudaSource(text, {name: _kernel(found[f"{name}_kernel"], functions, f) for name, f in prim_funcs.items()})


def _kernel(defined: re.Match[str], functions: tuple[str, ...], prim_func: PrimFunc) -> CudaKernel:
    extents = _extents(prim_func)
    return CudaKernel(
        symbol=defined["symbol"],
        grid=(extents.get("blockIdx.x", 1), extents.get("blockIdx.y", 1), extents.get("blockIdx.z", 1)),
        block=(extents.get("threadIdx.x", 1), extents.get("threadIdx.y", 1), extents.get("threadIdx.z", 1)),
        parameters=_parameters(defined["parameters"], prim_func),
        text=defined[0],
        functions=functions,
    )


def _parameters(declared: str, prim_func: PrimFunc) -> tuple[Parameter, ...]:
    """In the kernel's order, which is not the function's."""
    kinds, said = zip(*(one.rsplit(" ", 1) for one in declared.replace("__restrict__ ", "").split(", ")), strict=True)
    ours = [parameter.name for parameter in prim_func.params]
    names = [name.removesuffix("_ptr").removesuffix("_flat") for name in said]
    if not all(kind.endswith("*") for kind in kinds) or not set(names) <= set(ours) or len(set(names)) < len(names):
        raise ValueError(f"a kernel of ({declared}), expected pointers to {', '.join(ours)}")
    return tuple(Parameter(kind, ours.index(name)) for kind, name in zip(kinds, names, strict=True))


def _extents(prim_func: PrimFunc) -> dict[str, int]:
    found: dict[str, int] = {}

    def note(loop: For) -> For:
        if loop.thread_binding is not None:
            found[loop.thread_binding.thread_tag] = int(loop.extent)
        return loop

    tvm_ffi.structural_map(prim_func.body, (For, note))
    return found
