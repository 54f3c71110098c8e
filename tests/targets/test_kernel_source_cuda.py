"""How kernels are called that are launched without TVM: their grids, and their parameters in the order that TVM gave them."""

from __future__ import annotations

import pytest
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from tvm_rsq.targets.cuda.kernel_source import Parameter, cuda_source
from tvm_rsq.targets.generic.staging import flat


def added(kernels: int = 1) -> PrimFunc:
    """prim_func(left int16, right int8, total int32 (6, 4, 32)), in so many kernels"""
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            left, right = T.arg("left", T.buffer((768,), "int16")), T.arg("right", T.buffer((768,), "int8"))
            total = flat(T.arg("total", T.buffer((6, 4, 32), "int32")), 768, "int32")
            for _ in range(kernels):
                with T.thread_binding(6, thread="blockIdx.y") as block, T.thread_binding(4, thread="threadIdx.z") as z:
                    with T.thread_binding(32, thread="threadIdx.x") as x:
                        at = (block * 4 + z) * 32 + x
                        T.buffer_store(total, left[at].astype("int32") + right[at].astype("int32"), [at])
    return builder.get()


def test_grids_and_parameters():
    source = cuda_source({"one": added(), "another": added()}, "sm_90")
    assert source.kernels.keys() == {"one", "another"}
    for name, kernel in source.kernels.items():
        assert kernel.symbol == f"{name}_kernel" and kernel.text in source.text
        assert (kernel.grid, kernel.block) == ((1, 6, 1), (32, 1, 4))
        assert sorted(kernel.parameters, key=lambda each: each.buffer) == [
            Parameter("short*", 0), Parameter("signed char*", 1), Parameter("int*", 2),
        ]  # fmt: skip


def test_one_function_is_one_kernel():
    with pytest.raises(ValueError, match=r"expected one of each of \['main'\]"):
        cuda_source({"main": added(kernels=2)})


def test_numbers_are_no_parameters():
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            n = T.int32()
            out = T.arg("out", T.buffer((n,), "int32"))
            with T.thread_binding(32, thread="threadIdx.x") as x, T.If(x < n), T.Then():
                T.buffer_store(out, tirx.const(1, "int32"), [x])
    with pytest.raises(ValueError, match="expected pointers to out"):
        cuda_source({"main": builder.get()})
