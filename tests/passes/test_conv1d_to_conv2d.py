"""Conv1dToConv2d: one-dimensional layers become two-dimensional ones of height one."""

from __future__ import annotations

import pytest
from canonical_case import check_declined, check_rewrite, function
from tvm import relax

from tvm_rsq.passes.conv1d_to_conv2d import Conv1dToConv2d

op = relax.op
IMAGE = (2, 4, 6, 6)

# name -> (body before, body after, shapes); the first shape is the input's, the others are parameters'
REWRITES = {
    "conv1d": (
        lambda e, x, w: op.nn.conv1d(x, w, 2, (1, 0), 2, 2),
        lambda e, x, w: op.squeeze(e(op.nn.conv2d(e(op.expand_dims(x, 2)), e(op.expand_dims(w, 2)), [1, 2], [0, 1, 0, 0], [1, 2], 2)), 2),
        [(2, 4, 9), (6, 2, 3)],
    ),
    "pool1d": (
        lambda e, x: op.nn.avg_pool1d(x, 3, 2, (0, 1), count_include_pad=True),
        lambda e, x: op.squeeze(e(op.nn.avg_pool2d(e(op.expand_dims(x, 2)), (1, 3), (1, 2), (0, 0, 0, 1), count_include_pad=True)), 2),
        [(2, 4, 9)],
    ),
}


@pytest.mark.parametrize("name", REWRITES)
def test_rewrite(name):
    before, after, shapes = REWRITES[name]
    check_rewrite(Conv1dToConv2d(), function(before, shapes), function(after, shapes))


DECLINED = {
    "convolution with height": function(lambda e, x, w: op.nn.conv2d(x, w), [IMAGE, (2, 4, 3, 3)]),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declined(name):
    check_declined(Conv1dToConv2d(), DECLINED[name])
