"""A network whose kernels are those of another CPU: this machine's virtual machine runs it, and calls them emulated, or under qemu."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import tvm
import tvm_ffi
from emulated_cuda import compile_here, is_of_threads, launch
from emulated_x86 import emulated
from qemu_aarch64 import QemuLibrary
from tvm import relax
from tvm.ir import IRModule
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from tvm_rsq import pipeline
from tvm_rsq.passes.lower_islands import EXPAND
from tvm_rsq.targets.cuda.kernel_source import cuda_source
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import TargetSpec

Build = Callable[[IRModule, TargetSpec], tvm.runtime.Executable]

_FORWARD = "tests.call_elsewhere"


def here_with_kernels_of(target: str) -> TargetSpec:
    """This machine, with the kernels that are made for `target`."""
    return replace(parse_target("llvm"), library=parse_target(target).library)


def build_emulated(mod: IRModule, here: TargetSpec) -> tvm.runtime.Executable:
    """As compiler._build, of kernels that this machine cannot run."""
    return _build(mod, here, lambda kernels: {name: emulated(function) for name, function in kernels.items()})


def build_under_qemu(target: str, folder: Path, cpu: str | None = None) -> Build:
    """The same, of kernels that are compiled for `target` and run by qemu, as QemuLibrary does."""

    def build(mod: IRModule, here: TargetSpec) -> tvm.runtime.Executable:
        def forward_all(kernels: dict[str, PrimFunc]) -> dict[str, PrimFunc]:
            library = QemuLibrary(kernels, parse_target(target), folder, cpu)

            def call(name: str, *addresses: ctypes.c_void_p) -> None:
                arrays = [_view(at.value, param) for at, param in zip(addresses, kernels[name].params, strict=True)]
                for array, left in zip(arrays, library.call(name, *arrays), strict=True):
                    array[...] = left

            tvm_ffi.register_global_func(_FORWARD, call, override=True)
            return {name: _forwarding(name, function) for name, function in kernels.items()}

        return _build(mod, here, forward_all)

    return build


def build_on_emulated_gpu(folder: Path) -> Build:
    """The same, of a GPU's kernels, as compile_here of emulated_cuda runs their source."""

    def build(mod: IRModule, here: TargetSpec) -> tvm.runtime.Executable:
        def forward_all(kernels: dict[str, PrimFunc]) -> dict[str, PrimFunc]:
            own = {name: function for name, function in kernels.items() if is_of_threads(function)}
            sources = cuda_source(own).kernels
            library = ctypes.CDLL(str(compile_here(sources.values(), folder)))

            def call(name: str, *addresses: ctypes.c_void_p) -> None:
                launch(library, sources[name], [at.value for at in addresses])

            tvm_ffi.register_global_func(_FORWARD, call, override=True)
            return {name: _forwarding(name, function) for name, function in own.items()}

        return _build(mod, here, forward_all)

    return build


def _build(mod: IRModule, here: TargetSpec, change: Callable[[dict[str, PrimFunc]], dict[str, PrimFunc]]) -> tvm.runtime.Executable:
    target = here.tvm_target()
    with target, tvm.transform.PassContext(opt_level=3):
        entries = [var.name_hint for var in mod.get_global_vars() if var.name_hint in ("main", EXPAND)]
        mod = tvm.transform.Sequential(pipeline.build_passes(entries, parse_target("llvm").library))(mod)
        kernels = {var.name_hint: function for var, function in mod.functions.items() if isinstance(function, PrimFunc)}
        changed = change(kernels)
        mod = mod.clone()
        for name, function in changed.items():
            mod.update_func(mod.get_global_var(name), function)
        return relax.build(mod, target, relax_pipeline=None)


def _forwarding(name: str, function: PrimFunc) -> PrimFunc:
    """A function with the same arguments that hands their addresses on."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_attr({"global_symbol": name, "tirx.is_scheduled": True})
        buffers = [T.arg(f"a{i}", T.buffer(_shape(param), str(param.ty.dtype))) for i, param in enumerate(function.params)]
        T.evaluate(T.call_packed(_FORWARD, name, *[buffer.data for buffer in buffers]))
    return builder.get()


def _view(address: int, param: tvm.tirx.Var) -> np.ndarray:
    dtype, shape = np.dtype(str(param.ty.dtype)), _shape(param)
    memory = (ctypes.c_char * (dtype.itemsize * int(np.prod(shape)))).from_address(address)
    return np.frombuffer(memory, dtype).reshape(shape)


def _shape(param: tvm.tirx.Var) -> tuple[int, ...]:
    return tuple(int(extent) for extent in param.ty.shape)
