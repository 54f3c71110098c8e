"""fold_params: what is folded, what it is called, what it leaves, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from plain_compile import run_plain
from tvm import relax
from tvm.ir import assert_structural_equal
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_rsq.errors import UnsupportedError
from tvm_rsq.passes.fold_params import fold_params


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@I.ir_module
class Before:
    @R.function
    def main(
        x: R.Tensor((2, 4), "float32"),
        w: R.Tensor((3, 4), "float32"),
        b: R.Tensor((3,), "float32"),
        s: R.Tensor((), "float32"),
        unused: R.Tensor((7,), "float32"),
    ):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            t = R.permute_dims(w)
            product = R.matmul(x, t)
            offset = R.multiply(b, s)
            shifted = R.add(product, offset)
            scaled = R.multiply(shifted, s)
            R.output(scaled)
        return scaled


@I.ir_module
class Expected:
    @R.function
    def main(x: R.Tensor((2, 4), "float32"), w: R.Tensor((4, 3), "float32"), b: R.Tensor((3,), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            product = R.matmul(x, w)
            shifted = R.add(product, b)
            scaled = R.multiply(shifted, R.const(2.0, "float32"))
            R.output(scaled)
        return scaled


PARAMS = {"w": noise(3, 4), "b": noise(3, seed=1), "s": np.array(2, np.float32), "unused": noise(7)}


def test_expressions_of_parameters_become_parameters():
    module, params = fold_params(Before, PARAMS)
    assert_structural_equal(module, Expected)
    assert [var.name for var in module["main"].params] == ["x", *params]
    assert list(params) == ["w", "b"]
    np.testing.assert_array_equal(params["w"], PARAMS["w"].T)
    np.testing.assert_array_equal(params["b"], PARAMS["b"] * 2)


def test_the_numbers_stay_the_same():
    module, params = fold_params(Before, PARAMS)
    x = noise(2, 4, seed=2)
    np.testing.assert_array_equal(run_plain(module, [x, *params.values()])[0], run_plain(Before, [x, *PARAMS.values()])[0])


def test_a_second_run_changes_nothing():
    once, params = fold_params(Before, PARAMS)
    twice, again = fold_params(once, params)
    assert_structural_equal(twice, once)
    assert list(again) == list(params)


def test_the_input_is_left_alone():
    text, keys = Before.script(), list(PARAMS)
    fold_params(Before, PARAMS)
    assert Before.script() == text and list(PARAMS) == keys


def build(body, **arrays):
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 2, 3, 3), "float32"))
    weights = {name: relax.Var(name, relax.TensorType(value.shape, str(value.dtype))) for name, value in arrays.items()}
    with builder.function("main", [x, *weights.values()], attrs={"num_input": 1}):
        with builder.dataflow():
            output = builder.emit_output(body(builder.emit, x, **weights))
        builder.emit_func_output(output)
    return fold_params(builder.get(), arrays)


def test_a_source_in_two_forms_keeps_its_name_as_stored():
    def body(emit, x, w):
        doubled = emit(relax.op.multiply(w, relax.const(2.0, "float32")))
        return relax.op.nn.conv2d(emit(relax.op.nn.conv2d(x, doubled)), w)

    _module, params = build(body, w=noise(2, 2, 1, 1))
    np.testing.assert_array_equal(params["w.1"], params["w"] * 2)


def test_the_largest_source_gives_the_name():
    _module, params = build(
        lambda emit, x, s, w: relax.op.nn.conv2d(x, emit(relax.op.multiply(s, w))), s=noise(2, 1, 1, 1), w=noise(2, 2, 1, 1)
    )
    assert list(params) == ["w"]


def test_large_constants_become_parameters():
    value = noise(2, 2, 1, 1)
    _module, params = build(lambda emit, x: relax.op.nn.conv2d(x, relax.const(value)))
    np.testing.assert_array_equal(params["constant"], value)


def test_a_bias_of_one_channel_is_no_scalar():
    def body(emit, x, w, b, s):
        biased = emit(relax.op.add(emit(relax.op.nn.conv2d(x, w)), b))
        return relax.op.add(biased, s)

    module, params = build(body, w=noise(1, 2, 1, 1), b=noise(1, 1, 1, 1), s=noise(1, 1, 1, 1))
    assert list(params) == ["w", "b"]  # s, which is added to no layer, is a scalar


def test_split_and_concat_of_parameters():
    def body(emit, x, w):
        parts = emit(relax.op.split(w, 2, 0))
        swapped = emit(relax.op.concat([emit(relax.TupleGetItem(parts, 1)), emit(relax.TupleGetItem(parts, 0))], 0))
        return relax.op.nn.conv2d(x, swapped)

    w = noise(4, 2, 1, 1)
    _module, params = build(body, w=w)
    np.testing.assert_array_equal(params["w"], np.concatenate([w[2:], w[:2]]))


def test_unknown_operator_on_parameters_is_refused():
    with pytest.raises(UnsupportedError, match="relax.sin is applied to weights alone"):
        build(lambda emit, x, w: relax.op.nn.conv2d(x, emit(relax.op.sin(w))), w=noise(2, 2, 1, 1))
