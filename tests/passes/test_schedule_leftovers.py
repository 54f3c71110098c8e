"""Operators of float islands get a schedule, kernels keep theirs."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.ir import assert_structural_equal
from tvm.relax import op as R
from tvm.target import Target

from tests.passes.annotated_case import lowered, quantized
from tests.passes.islands_network import model
from tvm_rsq.passes.schedule_leftovers import schedule_leftovers
from tvm_rsq.targets.generic.schedule import schedule_elementwise

TARGET = Target({"kind": "llvm", "num-cores": 1})


def legalized():
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 64, 64, 32), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            out = builder.emit_output(R.nn.softmax(builder.emit(R.tanh(x)), axis=3))
        builder.emit_func_output(out)
    with TARGET:
        return relax.transform.LegalizeOps()(builder.get())


def functions(mod):
    return {var.name_hint: function for var, function in mod.functions_items() if isinstance(function, tirx.PrimFunc)}


def test_every_function_is_scheduled_once():
    before = legalized()
    text = before.script()
    after = schedule_leftovers(schedule_elementwise)(before)
    assert all("tirx.is_scheduled" in function.attrs for function in functions(after).values()) and len(functions(after)) == 2
    assert before.script() == text
    assert_structural_equal(schedule_leftovers(schedule_elementwise)(after), after)


def test_kernels_stay_as_they_are():
    mod, _ = lowered(quantized(model()))
    with TARGET:
        mod = relax.transform.LegalizeOps()(mod)
    before, after = functions(mod), functions(schedule_leftovers(schedule_elementwise)(mod))
    kernels = [name for name, function in before.items() if function.attrs and "tirx.is_scheduled" in function.attrs]
    assert len(kernels) == 11
    for name in kernels:
        assert_structural_equal(before[name], after[name])


def test_the_numbers_stay():
    x = np.random.default_rng(0).standard_normal((1, 64, 64, 32)).astype(np.float32)
    results = []
    for mod in (legalized(), schedule_leftovers(schedule_elementwise)(legalized())):
        machine = relax.VirtualMachine(tvm.compile(mod, TARGET), tvm.cpu())
        results.append(machine["main"](tvm.runtime.tensor(x)).numpy())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(results[1].sum(-1), 1, rtol=1e-5)
