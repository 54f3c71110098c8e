"""The one-idea passes of the frontends: activations, operand order, axes, pooling, shapes, one-dimensional layers."""

from __future__ import annotations

import numpy as np
import pytest
from canonical_case import check_declined, check_rewrite, function
from tvm import relax
from tvm.ir.transform import Sequential

from tvm_rsq.passes.conv1d_to_conv2d import Conv1dToConv2d
from tvm_rsq.passes.expand_activations import ExpandActivations
from tvm_rsq.passes.normalize_axes import NormalizeAxes
from tvm_rsq.passes.order_operands import OrderOperands
from tvm_rsq.passes.simplify_pooling import SimplifyPooling
from tvm_rsq.passes.simplify_shapes import SimplifyShapes
from tvm_rsq.passes.sink_squeeze import SinkSqueeze

op = relax.op
IMAGE = (2, 4, 6, 6)

# name -> (pass, body before, body after, shapes); the first shape is the input's, the others are parameters'
REWRITES = {
    "silu": (ExpandActivations(), lambda e, x: op.nn.silu(x), lambda e, x: op.multiply(x, e(op.sigmoid(x))), [IMAGE]),
    "parameter second": (OrderOperands(), lambda e, x, s: op.multiply(s, x), lambda e, x, s: op.multiply(x, s), [IMAGE, (1, 4, 1, 1)]),
    "parameter of full rank": (
        OrderOperands(),
        lambda e, x, s: op.subtract(x, s),
        lambda e, x, s: op.subtract(x, e(op.reshape(s, (1, 4, 1, 1)))),
        [IMAGE, (4, 1, 1)],
    ),
    "dense bias is a vector": (
        OrderOperands(),
        lambda e, x, w, b: op.add(b, e(op.matmul(x, w))),
        lambda e, x, w, b: op.add(e(op.matmul(x, w)), e(op.reshape(b, (5,)))),
        [(2, 3), (3, 5), (1, 5)],
    ),
    "constant second": (
        OrderOperands(),
        lambda e, x: op.add(relax.const(3.0, "float32"), x),
        lambda e, x: op.add(x, relax.const(3.0, "float32")),
        [IMAGE],
    ),
    "negative axes": (
        NormalizeAxes(),
        lambda e, x: op.mean(x, [-1, -2], keepdims=True),
        lambda e, x: op.mean(x, [2, 3], keepdims=True),
        [IMAGE],
    ),
    "all axes": (NormalizeAxes(), lambda e, x: op.max(x), lambda e, x: op.max(x, [0, 1, 2, 3]), [IMAGE]),
    "softmax": (NormalizeAxes(), lambda e, x: op.nn.softmax(x, -3), lambda e, x: op.nn.softmax(x, 1), [IMAGE]),
    "concat": (NormalizeAxes(), lambda e, x: op.concat([x, x], -1), lambda e, x: op.concat([x, x], 3), [IMAGE]),
    "parts of a split": (
        NormalizeAxes(),
        lambda e, x: relax.TupleGetItem(e(op.split(x, 2, -3)), 1),
        lambda e, x: relax.TupleGetItem(e(op.split(x, [2], 1)), 1),
        [IMAGE],
    ),
    "squeeze": (NormalizeAxes(), lambda e, x: op.squeeze(x), lambda e, x: op.squeeze(x, [0, 2]), [(1, 4, 1, 3)]),
    "expand_dims": (NormalizeAxes(), lambda e, x: op.expand_dims(x, -1), lambda e, x: op.expand_dims(x, 4), [IMAGE]),
    "permute_dims": (NormalizeAxes(), lambda e, x: op.permute_dims(x), lambda e, x: op.permute_dims(x, [3, 2, 1, 0]), [IMAGE]),
    "adaptive to one": (
        SimplifyPooling(),
        lambda e, x: op.nn.adaptive_avg_pool2d(x, 1),
        lambda e, x: op.mean(x, [2, 3], keepdims=True),
        [IMAGE],
    ),
    "adaptive dividing": (
        SimplifyPooling(),
        lambda e, x: op.nn.adaptive_avg_pool2d(x, (2, 3)),
        lambda e, x: op.nn.avg_pool2d(x, (3, 2), (3, 2)),
        [IMAGE],
    ),
    "adaptive identity": (
        SimplifyPooling(),
        lambda e, x: op.nn.relu(e(op.nn.adaptive_avg_pool2d(x, 6))),
        lambda e, x: op.nn.relu(x),
        [IMAGE],
    ),
    "reshape of reshape": (
        SimplifyShapes(),
        lambda e, x: op.reshape(e(op.reshape(x, (8, 36))), (2, 144)),
        lambda e, x: op.reshape(x, (2, 144)),
        [IMAGE],
    ),
    "reshape of expand_dims": (
        SimplifyShapes(),
        lambda e, x: op.reshape(e(op.expand_dims(x, 0)), (2, 144)),
        lambda e, x: op.reshape(x, (2, 144)),
        [IMAGE],
    ),
    "reshape to a new axis": (SimplifyShapes(), lambda e, x: op.reshape(x, (2, 1, 4, 6, 6)), lambda e, x: op.expand_dims(x, 1), [IMAGE]),
    "shapes that change nothing": (
        SimplifyShapes(),
        lambda e, x: op.tanh(e(op.nn.pad(e(op.permute_dims(e(op.reshape(x, IMAGE)), [0, 1, 2, 3])), [0] * 8))),
        lambda e, x: op.tanh(x),
        [IMAGE],
    ),
    "squeeze of expand_dims": (
        SimplifyShapes(),
        lambda e, x: op.tanh(e(op.squeeze(e(op.expand_dims(x, 2)), 2))),
        lambda e, x: op.tanh(x),
        [IMAGE],
    ),
    "conv1d": (
        Conv1dToConv2d(),
        lambda e, x, w: op.nn.conv1d(x, w, 2, (1, 0), 2, 2),
        lambda e, x, w: op.squeeze(e(op.nn.conv2d(e(op.expand_dims(x, 2)), e(op.expand_dims(w, 2)), [1, 2], [0, 1, 0, 0], [1, 2], 2)), 2),
        [(2, 4, 9), (6, 2, 3)],
    ),
    "pool1d": (
        Conv1dToConv2d(),
        lambda e, x: op.nn.avg_pool1d(x, 3, 2, (0, 1), count_include_pad=True),
        lambda e, x: op.squeeze(e(op.nn.avg_pool2d(e(op.expand_dims(x, 2)), (1, 3), (1, 2), (0, 0, 0, 1), count_include_pad=True)), 2),
        [(2, 4, 9)],
    ),
    "squeeze behind relu": (
        SinkSqueeze(),
        lambda e, x: op.nn.relu(e(op.squeeze(x, 2))),
        lambda e, x: op.squeeze(e(op.nn.relu(x)), 2),
        [(2, 4, 1, 5)],
    ),
    "squeeze behind bias": (
        SinkSqueeze(),
        lambda e, x, b: op.add(e(op.squeeze(x, 2)), b),
        lambda e, x, b: op.squeeze(e(op.add(x, e(op.expand_dims(b, 2)))), 2),
        [(2, 4, 1, 5), (1, 4, 1)],
    ),
    "squeeze behind batch norm": (
        SinkSqueeze(),
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
    rewrite, before, after, shapes = REWRITES[name]
    check_rewrite(rewrite, function(before, shapes), function(after, shapes))


DECLINED = {
    "two activations": (OrderOperands(), function(lambda e, x, y: op.add(x, y), [IMAGE, IMAGE], num_input=2)),
    "quotient by an activation": (OrderOperands(), function(lambda e, x, s: op.divide(s, x), [IMAGE, (1, 4, 1, 1)])),
    "uneven windows": (SimplifyPooling(), function(lambda e, x: op.nn.adaptive_avg_pool2d(x, (4, 4)), [IMAGE])),
    "squeeze of other axes": (SimplifyShapes(), function(lambda e, x: op.squeeze(e(op.expand_dims(x, 0)), 1), [(1, 4)])),
    "a sum with another shape": (
        SinkSqueeze(),
        function(lambda e, x, y: op.add(e(op.squeeze(x, [2])), y), [(2, 4, 1, 5), (2, 4, 5)], num_input=2),
    ),
    "squeeze of two axes": (SinkSqueeze(), function(lambda e, x: op.nn.relu(e(op.squeeze(x, [2, 3]))), [(2, 4, 1, 1)])),
    "convolution with height": (Conv1dToConv2d(), function(lambda e, x, w: op.nn.conv2d(x, w), [IMAGE, (2, 4, 3, 3)])),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declined(name):
    check_declined(*DECLINED[name])


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
