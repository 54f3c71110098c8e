"""NormalizeAxes: axes are explicit, non-negative and in order."""

from __future__ import annotations

import pytest
from canonical_case import check_rewrite, function
from tvm import relax

from tvm_rsq.passes.normalize_axes import NormalizeAxes

op = relax.op
IMAGE = (2, 4, 6, 6)

# name -> (body before, body after, shapes); the first shape is the input's, the others are parameters'
REWRITES = {
    "negative axes": (
        lambda e, x: op.mean(x, [-1, -2], keepdims=True),
        lambda e, x: op.mean(x, [2, 3], keepdims=True),
        [IMAGE],
    ),
    "all axes": (lambda e, x: op.max(x), lambda e, x: op.max(x, [0, 1, 2, 3]), [IMAGE]),
    "softmax": (lambda e, x: op.nn.softmax(x, -3), lambda e, x: op.nn.softmax(x, 1), [IMAGE]),
    "concat": (lambda e, x: op.concat([x, x], -1), lambda e, x: op.concat([x, x], 3), [IMAGE]),
    "parts of a split": (
        lambda e, x: relax.TupleGetItem(e(op.split(x, 2, -3)), 1),
        lambda e, x: relax.TupleGetItem(e(op.split(x, [2], 1)), 1),
        [IMAGE],
    ),
    "squeeze": (lambda e, x: op.squeeze(x), lambda e, x: op.squeeze(x, [0, 2]), [(1, 4, 1, 3)]),
    "expand_dims": (lambda e, x: op.expand_dims(x, -1), lambda e, x: op.expand_dims(x, 4), [IMAGE]),
    "permute_dims": (lambda e, x: op.permute_dims(x), lambda e, x: op.permute_dims(x, [3, 2, 1, 0]), [IMAGE]),
}


@pytest.mark.parametrize("name", REWRITES)
def test_rewrite(name):
    before, after, shapes = REWRITES[name]
    check_rewrite(NormalizeAxes(), function(before, shapes), function(after, shapes))
