"""separate_layers: every layer has a weight and a bias of its own."""

from __future__ import annotations

import numpy as np
from canonical_case import function
from plain_compile import run_plain
from tvm import relax
from tvm.ir import assert_structural_equal

from tvm_rsq.passes.separate_layers import separate_layers

op = relax.op


def shared():
    return function(lambda e, x, w: op.nn.conv2d(e(op.nn.conv2d(x, w)), w), [(1, 2, 6, 6), (2, 2, 3, 3)])


def test_a_shared_weight_is_copied():
    w = np.random.default_rng(1).standard_normal((2, 2, 3, 3)).astype(np.float32)
    before = shared()
    module, params = separate_layers(before, {"v1": w})
    assert list(params) == ["v1", "v1.1"] and [var.name for var in module["main"].params] == ["v0", "v1", "v1.1"]
    expected = function(lambda e, x, w, copy: op.nn.conv2d(e(op.nn.conv2d(x, w)), copy), [(1, 2, 6, 6), (2, 2, 3, 3), (2, 2, 3, 3)])
    assert_structural_equal(module, expected)
    assert_structural_equal(before, shared())
    x = np.random.default_rng(2).standard_normal((1, 2, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(run_plain(module, [x, *params.values()])[0], run_plain(before, [x, w])[0])
    again, params_again = separate_layers(module, params)
    assert again.same_as(module) and list(params_again) == list(params)


def test_a_shared_bias_is_copied_too():
    body = lambda e, x, w, b: op.add(e(op.nn.conv2d(e(op.add(e(op.nn.conv2d(x, w)), b)), w)), b)  # noqa: E731
    module, params = separate_layers(function(body, [(1, 2, 6, 6), (2, 2, 1, 1), (1, 2, 1, 1)]), dict.fromkeys(("v1", "v2"), np.ones(1)))
    assert list(params) == ["v1", "v2", "v1.1", "v2.1"]
    reads = [[arg.name for arg in binding.value.args] for block in module["main"].body.blocks for binding in block.bindings]
    assert [names[1] for names in reads] == ["v1", "v2", "v1.1", "v2.1"]
