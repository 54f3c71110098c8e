"""SimplifyPooling: adaptive pooling becomes a mean or a pooling with fixed windows."""

from __future__ import annotations

import pytest
from canonical_case import check_declined, check_rewrite, function
from tvm import relax

from tvm_rsq.passes.simplify_pooling import SimplifyPooling

op = relax.op
IMAGE = (2, 4, 6, 6)

# name -> (body before, body after, shapes); the first shape is the input's, the others are parameters'
REWRITES = {
    "adaptive to one": (
        lambda e, x: op.nn.adaptive_avg_pool2d(x, 1),
        lambda e, x: op.mean(x, [2, 3], keepdims=True),
        [IMAGE],
    ),
    "adaptive dividing": (
        lambda e, x: op.nn.adaptive_avg_pool2d(x, (2, 3)),
        lambda e, x: op.nn.avg_pool2d(x, (3, 2), (3, 2)),
        [IMAGE],
    ),
    "adaptive identity": (
        lambda e, x: op.nn.relu(e(op.nn.adaptive_avg_pool2d(x, 6))),
        lambda e, x: op.nn.relu(x),
        [IMAGE],
    ),
}


@pytest.mark.parametrize("name", REWRITES)
def test_rewrite(name):
    before, after, shapes = REWRITES[name]
    check_rewrite(SimplifyPooling(), function(before, shapes), function(after, shapes))


DECLINED = {
    "uneven windows": function(lambda e, x: op.nn.adaptive_avg_pool2d(x, (4, 4)), [IMAGE]),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declined(name):
    check_declined(SimplifyPooling(), DECLINED[name])
