from __future__ import annotations

import re

import numpy as np
import pytest
import tvm
from conv_reference import carried
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.generic.steps import vector
from tvm_rsq.targets.generic.winograd import winograd
from tvm_rsq.targets.generic.winograd_space import default_winograd_tile
from tvm_rsq.targets.generic.word_step import WidenWordStep
from tvm_rsq.targets.generic.wrapping import Wrapping
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue

OPERATIONS = [lambda a, b: a + b, lambda a, b: a - b, lambda a, _: a * 0x7654321, lambda a, _: a << 3, lambda a, _: a >> 2]


def kernel_of(lanes: int) -> Kernel:
    """Every operation on two vectors of `lanes`."""
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
            a, b = (T.arg(name, T.buffer((lanes,), "int32")) for name in "ab")
            out = T.arg("out", T.buffer((len(OPERATIONS), lanes), "int32"))
            x, y = (Wrapping(v.vload([0], vector("int32", lanes))) for v in (a, b))
            for row, operation in enumerate(OPERATIONS):
                T.buffer_store(out, operation(x, y).value, [row, tvm.tirx.Ramp(0, 1, lanes) if lanes > 1 else 0])
    return Kernel(name="wrapping", prim_func=builder.get())


def llvm_ir(kernel: Kernel, target: str) -> str:
    return tvm.compile(tvm.IRModule({"main": kernel.prim_func}), target=parse_target(target).tvm_target()).mod.inspect_source("ll")


@pytest.mark.parametrize("lanes", [1, 8])
def test_modulo_two_to_the_32(lanes):
    extremes = np.array([2**31 - 1, -(2**31), -1, 1, 2**30, -(2**30) - 7, 123456789, 0])
    a, b = (x[:lanes].astype("int32") for x in (extremes, np.roll(extremes, 3)))
    compiled = tvm.compile(tvm.IRModule({"main": kernel_of(lanes).prim_func}), target=parse_target("llvm").tvm_target())
    out = tvm.runtime.tensor(np.zeros((len(OPERATIONS), lanes), "int32"))
    compiled.mod["main"](tvm.runtime.tensor(a), tvm.runtime.tensor(b), out)
    expected = [operation(a.astype("int64"), b.astype("int64")) for operation in OPERATIONS]
    np.testing.assert_array_equal(out.numpy(), np.array(expected).astype("int32"))


def test_nothing_is_computed_in_64_bits():
    ir = llvm_ir(kernel_of(8), "haswell")
    assert "<8 x i32>" in ir and "<8 x i64>" not in ir
    assert not re.search(r"nsw <8 x i32>", ir)


def conv(**changes) -> Conv2DWorkload:
    # A shift: the epilogue has no sums of its own.
    epilogue = Epilogue(requantize="shift", bounded=True)
    given = {"height": 6, "width": 6, "in_channels": 16, "out_channels": 16, "kernel": (3, 3), "epilogue": epilogue, **changes}
    return Conv2DWorkload(batch=1, **given)


@pytest.mark.parametrize("target", ["haswell", "x86-64", "aarch64"])
@pytest.mark.parametrize(
    "w", [conv(stride=(2, 2)), conv(stride=(2, 2), accumulate16=2), conv(groups=16)], ids=["direct", "accumulate16", "depthwise"]
)
def test_sums_of_a_kernel_may_wrap(w, target):
    """The folded bias is taken modulo 2^32, and only the last sum is sure to fit."""
    library = parse_target(target).library
    ir = llvm_ir(library.conv2d(carried(w, library.carrier)), target)
    assert re.search(r"add <\d+ x i32>", ir)
    assert not re.search(r"(add|sub) nsw <\d+ x i32>", ir)


@pytest.mark.parametrize("target", ["haswell", "aarch64"])
def test_sums_of_a_winograd_kernel_may_wrap(target):
    library = parse_target(target).library
    step, w = library.word_step or WidenWordStep(), carried(conv(), library.carrier)
    kernel = winograd(w, step, "fma", default_winograd_tile(w, step))
    ir = llvm_ir(kernel, target)
    # The inverse of the odd factors.
    assert re.search(r"mul <\d+ x i32> %\w+, splat \(i32 -?\d{5,}\)", ir)
    assert not re.search(r"(add|sub) nsw <\d+ x i32>", ir)
