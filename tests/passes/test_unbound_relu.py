"""UnboundRelu: relu6 behind layers becomes relu, every other clip stays."""

from __future__ import annotations

import numpy as np
import pytest
from canonical_case import check_declined, function
from plain_compile import run_plain
from tvm import relax
from tvm.ir import assert_structural_equal

from tvm_rsq.passes.unbound_relu import UnboundRelu

op = relax.op
SHAPES = [(1, 6, 6, 3), (4, 3, 3, 3), (4,)]
CONV = {"data_layout": "NHWC", "kernel_layout": "OHWI"}


def conv(e, x, w):
    return e(op.nn.conv2d(x, w, **CONV))


def relu6(x):
    return op.clip(x, 0.0, 6.0)


# name -> (body before, body after, shapes)
REWRITES = {
    "behind a convolution": (lambda e, x, w: relu6(conv(e, x, w)), lambda e, x, w: op.nn.relu(conv(e, x, w)), SHAPES[:2]),
    "behind a bias": (
        lambda e, x, w, b: relu6(e(op.add(conv(e, x, w), b))), lambda e, x, w, b: op.nn.relu(e(op.add(conv(e, x, w), b))), SHAPES),
    "behind a bias in front": (
        lambda e, x, w, b: relu6(e(op.add(b, conv(e, x, w)))), lambda e, x, w, b: op.nn.relu(e(op.add(b, conv(e, x, w)))), SHAPES),
    "behind a dense layer, read twice": (
        lambda e, x, w: (lambda h: op.add(h, h))(e(relu6(e(op.matmul(x, w))))),
        lambda e, x, w: (lambda h: op.add(h, h))(e(op.nn.relu(e(op.matmul(x, w))))), [(2, 5), (5, 3)]),
}  # fmt: skip


@pytest.mark.parametrize("name", REWRITES)
def test_rewrite(name):
    body, expected, shapes = REWRITES[name]
    before, after = function(body, shapes), function(expected, shapes)
    text = before.script(show_meta=True)
    assert_structural_equal(UnboundRelu()(before), after)
    assert before.script(show_meta=True) == text
    assert_structural_equal(UnboundRelu()(after), after)


def test_values_below_six_are_the_same_and_those_above_are_let_through():
    before = function(REWRITES["behind a bias"][0], SHAPES)
    arrays = [np.random.default_rng(i).standard_normal(shape).astype(np.float32) for i, shape in enumerate(SHAPES)]
    bounded, unbounded = (run_plain(mod, arrays)[0] for mod in (before, UnboundRelu()(before)))
    assert unbounded.max() > 6
    np.testing.assert_allclose(np.minimum(unbounded, 6), bounded, rtol=1e-5, atol=1e-5)


DECLINED = {
    "of the input": function(lambda e, x: relu6(x), [(4, 5)]),
    "hard sigmoid": function(lambda e, x, w: relu6(e(op.add(conv(e, x, w), relax.const(3.0, "float32")))), SHAPES[:2]),
    "of a sum of layers": function(lambda e, x, w: relu6(e(op.add(conv(e, x, w), conv(e, x, w)))), SHAPES[:2]),
    "of a sum with an activation": function(lambda e, x, w: (lambda h: relu6(e(op.add(h, e(op.tanh(h))))))(conv(e, x, w)), SHAPES[:2]),
    "with another bound": function(lambda e, x, w: op.clip(conv(e, x, w), 0.0, 4.0), SHAPES[:2]),
    "with a lower bound": function(lambda e, x, w: op.clip(conv(e, x, w), -1.0, 6.0), SHAPES[:2]),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declined(name):
    check_declined(UnboundRelu(), DECLINED[name])
