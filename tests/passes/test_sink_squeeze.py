"""SinkSqueeze: a squeeze moves behind element-wise operators."""

from __future__ import annotations

import numpy as np
import pytest
from canonical_case import check_declined, check_rewrite, function
from tvm import relax
from tvm.ir.transform import Sequential

from tvm_rsq.passes.conv1d_to_conv2d import Conv1dToConv2d
from tvm_rsq.passes.simplify_shapes import SimplifyShapes
from tvm_rsq.passes.sink_squeeze import SinkSqueeze

op = relax.op

# name -> (body before, body after, shapes); the first shape is the input's, the others are parameters'
REWRITES = {
    "squeeze behind relu": (
        lambda e, x: op.nn.relu(e(op.squeeze(x, 2))),
        lambda e, x: op.squeeze(e(op.nn.relu(x)), 2),
        [(2, 4, 1, 5)],
    ),
    "squeeze behind bias": (
        lambda e, x, b: op.add(e(op.squeeze(x, 2)), b),
        lambda e, x, b: op.squeeze(e(op.add(x, e(op.expand_dims(b, 2)))), 2),
        [(2, 4, 1, 5), (1, 4, 1)],
    ),
    "squeeze behind batch norm": (
        lambda e, x, g, b, m: relax.TupleGetItem(
            e(op.nn.batch_norm(e(op.squeeze(x, 2)), g, b, m, e(op.multiply(g, g)), 1, training=False)), 0
        ),
        lambda e, x, g, b, m: op.squeeze(
            e(relax.TupleGetItem(e(op.nn.batch_norm(x, g, b, m, e(op.multiply(g, g)), 1, training=False)), 0)), 2
        ),
        [(2, 4, 1, 5), (4,), (4,), (4,)],
    ),
}


@pytest.mark.parametrize("name", REWRITES)
def test_rewrite(name):
    before, after, shapes = REWRITES[name]
    check_rewrite(SinkSqueeze(), function(before, shapes), function(after, shapes))


DECLINED = {
    "a sum with another shape": function(
        lambda e, x, y: op.add(e(op.squeeze(x, [2])), y),
        [(2, 4, 1, 5), (2, 4, 5)],
        num_input=2,
    ),
    "squeeze of two axes": function(lambda e, x: op.nn.relu(e(op.squeeze(x, [2, 3]))), [(2, 4, 1, 1)]),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declined(name):
    check_declined(SinkSqueeze(), DECLINED[name])


def test_one_dimensional_layers_stay_two_dimensional_between_them():
    def body(emit, x, w, b):
        layer = emit(op.nn.relu(emit(op.add(emit(op.nn.conv1d(x, w, padding=1)), b))))
        return op.nn.max_pool1d(layer, 3, 3)

    before = function(body, [(2, 4, 9), (4, 4, 3), (1, 4, 1)])
    after = Sequential([Conv1dToConv2d(), SinkSqueeze(), SimplifyShapes()])(before)
    names = [
        getattr(binding.value.op, "name", "") for binding in after["main"].body.blocks[0].bindings if isinstance(binding.value, relax.Call)
    ]
    assert names.count("relax.squeeze") == 1
    assert names.index("relax.squeeze") > names.index("relax.nn.max_pool2d")
    assert np.array_equal([int(n) for n in after["main"].ret_ty.shape.values], [2, 4, 3])
