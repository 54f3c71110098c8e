"""A small function around a body, for the tests of the canonicalizing passes: structure and numbers, before and after."""

from __future__ import annotations

import numpy as np
from plain_compile import run_plain
from tvm import relax
from tvm.ir import IRModule, assert_structural_equal


def function(body, shapes, num_input=1):
    """main(v0, v1, ...) = body(emit, v0, v1, ...); the first `num_input` are inputs, the others parameters."""
    builder = relax.BlockBuilder()
    variables = [relax.Var(f"v{i}", relax.TensorType(shape, "float32")) for i, shape in enumerate(shapes)]
    with builder.function("main", variables, attrs={"num_input": num_input}):
        with builder.dataflow():
            result = builder.emit_output(body(builder.emit, *variables))
        builder.emit_func_output(result)
    return relax.transform.CanonicalizeBindings()(builder.get())


def check_rewrite(rewrite, before: IRModule, expected: IRModule):
    """The rewrite gives `expected`, computes the same numbers, leaves its input alone and does nothing the second time."""
    text = before.script(show_meta=True)
    after = rewrite(before)
    assert_structural_equal(after, expected)
    assert before.script(show_meta=True) == text
    assert_structural_equal(rewrite(after), after)
    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal([int(n) for n in var.ty.shape.values]).astype(np.float32) * 3 for var in before["main"].params]
    for got, wanted in zip(run_plain(after, arrays), run_plain(before, arrays), strict=True):
        assert got.shape == wanted.shape
        # the same operations in float32, at most summed in another order
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def check_declined(rewrite, before: IRModule):
    """The rewrite leaves this function as it is."""
    assert_structural_equal(rewrite(before), before)
