"""ExpandActivations: fused activations become elementary operators."""

from __future__ import annotations

import pytest
from canonical_case import check_rewrite, function
from tvm import relax

from tvm_rsq.passes.expand_activations import ExpandActivations

op = relax.op
IMAGE = (2, 4, 6, 6)

# name -> (body before, body after, shapes); the first shape is the input's, the others are parameters'
REWRITES = {
    "silu": (lambda e, x: op.nn.silu(x), lambda e, x: op.multiply(x, e(op.sigmoid(x))), [IMAGE]),
}


@pytest.mark.parametrize("name", REWRITES)
def test_rewrite(name):
    before, after, shapes = REWRITES[name]
    check_rewrite(ExpandActivations(), function(before, shapes), function(after, shapes))
