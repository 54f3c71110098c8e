"""OrderOperands: parameters and constants come second, and of the expected rank."""

from __future__ import annotations

import pytest
from canonical_case import check_declined, check_rewrite, function
from tvm import relax

from tvm_rsq.passes.order_operands import OrderOperands

op = relax.op
IMAGE = (2, 4, 6, 6)

# name -> (body before, body after, shapes); the first shape is the input's, the others are parameters'
REWRITES = {
    "parameter second": (lambda e, x, s: op.multiply(s, x), lambda e, x, s: op.multiply(x, s), [IMAGE, (1, 4, 1, 1)]),
    "parameter of full rank": (
        lambda e, x, s: op.subtract(x, s),
        lambda e, x, s: op.subtract(x, e(op.reshape(s, (1, 4, 1, 1)))),
        [IMAGE, (4, 1, 1)],
    ),
    "dense bias is a vector": (
        lambda e, x, w, b: op.add(b, e(op.matmul(x, w))),
        lambda e, x, w, b: op.add(e(op.matmul(x, w)), e(op.reshape(b, (5,)))),
        [(2, 3), (3, 5), (1, 5)],
    ),
    "constant second": (
        lambda e, x: op.add(relax.const(3.0, "float32"), x),
        lambda e, x: op.add(x, relax.const(3.0, "float32")),
        [IMAGE],
    ),
}


@pytest.mark.parametrize("name", REWRITES)
def test_rewrite(name):
    before, after, shapes = REWRITES[name]
    check_rewrite(OrderOperands(), function(before, shapes), function(after, shapes))


DECLINED = {
    "two activations": function(lambda e, x, y: op.add(x, y), [IMAGE, IMAGE], num_input=2),
    "quotient by an activation": function(lambda e, x, s: op.divide(s, x), [IMAGE, (1, 4, 1, 1)]),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declined(name):
    check_declined(OrderOperands(), DECLINED[name])
