"""SimplifyShapes: shape operators that change nothing, or undo each other, vanish."""

from __future__ import annotations

import pytest
from canonical_case import check_declined, check_rewrite, function
from tvm import relax

from tvm_rsq.passes.simplify_shapes import SimplifyShapes

op = relax.op
IMAGE = (2, 4, 6, 6)

# name -> (body before, body after, shapes); the first shape is the input's, the others are parameters'
REWRITES = {
    "reshape of reshape": (
        lambda e, x: op.reshape(e(op.reshape(x, (8, 36))), (2, 144)),
        lambda e, x: op.reshape(x, (2, 144)),
        [IMAGE],
    ),
    "reshape of expand_dims": (
        lambda e, x: op.reshape(e(op.expand_dims(x, 0)), (2, 144)),
        lambda e, x: op.reshape(x, (2, 144)),
        [IMAGE],
    ),
    "reshape to a new axis": (lambda e, x: op.reshape(x, (2, 1, 4, 6, 6)), lambda e, x: op.expand_dims(x, 1), [IMAGE]),
    "shapes that change nothing": (
        lambda e, x: op.tanh(e(op.nn.pad(e(op.permute_dims(e(op.reshape(x, IMAGE)), [0, 1, 2, 3])), [0] * 8))),
        lambda e, x: op.tanh(x),
        [IMAGE],
    ),
    "squeeze of expand_dims": (
        lambda e, x: op.tanh(e(op.squeeze(e(op.expand_dims(x, 2)), 2))),
        lambda e, x: op.tanh(x),
        [IMAGE],
    ),
}


@pytest.mark.parametrize("name", REWRITES)
def test_rewrite(name):
    before, after, shapes = REWRITES[name]
    check_rewrite(SimplifyShapes(), function(before, shapes), function(after, shapes))


DECLINED = {
    "squeeze of other axes": function(lambda e, x: op.squeeze(e(op.expand_dims(x, 0)), 1), [(1, 4)]),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declined(name):
    check_declined(SimplifyShapes(), DECLINED[name])
