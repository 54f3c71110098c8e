"""Kernels of one target, compiled into a shared library that runner.c can call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tvm
from tvm.tirx import PrimFunc

from tvm_rsq.targets.linker import link_function
from tvm_rsq.targets.spec import TargetSpec

_PREFIX = "__tvm_ffi_"  # of the exported symbols; their interface is TVMFFISafeCallType


def compile_kernels(kernels: Mapping[str, PrimFunc], spec: TargetSpec) -> tvm.runtime.Executable:
    """Symbol -> function, static shapes, all in one module."""
    target = spec.tvm_target()
    module = tvm.IRModule({name: function.with_attr("global_symbol", name) for name, function in kernels.items()})
    with target, tvm.transform.PassContext(opt_level=3):
        return tvm.compile(module, target=target)


def build_library(kernels: Mapping[str, PrimFunc], spec: TargetSpec, path: Path) -> str:
    """Write the library to `path`; what comes back is the runner's input: one call of each kernel, in order.

    TargetError: no linker for the target.
    """
    compile_kernels(kernels, spec).export_library(str(path), fcompile=link_function(spec))
    return "".join(f"{_PREFIX}{name} {_call(function)}\n" for name, function in kernels.items())


def _call(function: PrimFunc) -> str:
    words = [len(function.params)]
    for param in function.params:
        dtype = tvm.DataType(str(param.ty.dtype))
        shape = [int(extent) for extent in param.ty.shape]
        words += [dtype.type_code, dtype.bits, len(shape), *shape]
    return " ".join(map(str, words))
