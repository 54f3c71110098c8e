"""tanh in float: exact near zero, and what it becomes."""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.ir import IRModule, assert_structural_equal
from tvm.relax import op as R

from tests.tiny_networks import build
from tvm_rsq.compiler import compile_float
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.tanh_near_zero import legalize_tanh


def test_it_is_exact_to_a_few_roundings_from_the_smallest_to_the_largest():
    x = np.concatenate([np.geomspace(1e-38, 1e38, 2000), np.linspace(0.2, 0.3, 200), [0, 1e-45]]).astype(np.float32)
    x = np.concatenate([x, -x]).reshape(2, -1)
    model = build(lambda emit, value, _: emit(R.tanh(value)), [x.shape], {})
    assert {node.op for node in Dataflow(model.module).nodes.values()} == {"tanh"}
    (found,) = [compile_float(model).run(x)]
    np.testing.assert_allclose(found, np.tanh(x.astype(np.float64)), rtol=4e-7, atol=1e-45)
    assert np.isnan(compile_float(build(lambda emit, value, _: emit(R.tanh(value)), [(1, 1)], {})).run(np.full((1, 1), np.nan, np.float32)))


def one_tanh(make) -> IRModule:
    builder, x = relax.BlockBuilder(), relax.Var("x", relax.TensorType((2, 3), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            out = builder.emit_output(make(builder, x))
        builder.emit_func_output(out)
    return builder.finalize()


def test_a_tanh_becomes_a_call_of_it():
    before = one_tanh(lambda _, x: R.tanh(x))
    kept = before.script()
    after = relax.transform.LegalizeOps({"relax.tanh": legalize_tanh})(before)
    function = after["tanh"]
    expected = one_tanh(lambda builder, x: R.call_tir(builder.add_func(function, "tanh"), x, relax.TensorType((2, 3), "float32")))
    assert_structural_equal(after, expected)
    assert before.script() == kept and "0.0218" in function.script(), "the last term of the series"
