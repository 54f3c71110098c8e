"""MergeClip: one bound, relu where it is one, nothing where there is none."""

from __future__ import annotations

import math

import pytest
from canonical_case import check_declined, check_rewrite, function
from tvm import relax

from tvm_rsq.passes.merge_clip import MergeClip

op = relax.op
ZERO, SIX = relax.const(0.0, "float32"), relax.const(6.0, "float32")
RELU6 = function(lambda emit, x: op.clip(x, 0.0, 6.0), [(4, 5)])
FORMS = {
    "two clips": lambda emit, x: op.clip(emit(op.clip(x, 0.0, math.inf)), -math.inf, 6.0),
    "clip of relu": lambda emit, x: op.clip(emit(op.nn.relu(x)), -math.inf, 6.0),
    "relu of clip": lambda emit, x: op.nn.relu(emit(op.clip(x, -math.inf, 6.0))),
    "minimum of maximum": lambda emit, x: op.minimum(emit(op.maximum(x, ZERO)), SIX),
    "three": lambda emit, x: op.clip(emit(op.clip(emit(op.nn.relu(x)), 0.0, 9.0)), -1.0, 6.0),
}


@pytest.mark.parametrize("form", FORMS)
def test_bounds_become_one_clip(form):
    check_rewrite(MergeClip(), function(FORMS[form], [(4, 5)]), RELU6)


@pytest.mark.parametrize("body", [lambda emit, x: op.clip(x, 0.0, math.inf), lambda emit, x: op.maximum(x, ZERO)])
def test_a_bound_at_zero_is_relu(body):
    check_rewrite(MergeClip(), function(body, [(4, 5)]), function(lambda emit, x: op.nn.relu(x), [(4, 5)]))


def test_a_clip_without_bounds_disappears():
    before = function(lambda emit, x: op.tanh(emit(op.clip(x, -math.inf, math.inf))), [(4, 5)])
    check_rewrite(MergeClip(), before, function(lambda emit, x: op.tanh(x), [(4, 5)]))


def test_the_inner_clip_stays_for_its_other_users():
    def body(emit, x):
        inner = emit(op.nn.relu(x))
        return op.add(emit(op.clip(inner, -math.inf, 6.0)), inner)

    def after(emit, x):
        inner = emit(op.nn.relu(x))
        return op.add(emit(op.clip(x, 0.0, 6.0)), inner)

    check_rewrite(MergeClip(), function(body, [(4, 5)]), function(after, [(4, 5)]))


def test_bounds_that_do_not_overlap_are_left():
    check_declined(MergeClip(), function(lambda emit, x: op.clip(emit(op.clip(x, 2.0, 3.0)), 0.0, 1.0), [(4, 5)]))


def test_maximum_of_tensors_is_left():
    check_declined(MergeClip(), function(lambda emit, x, y: op.maximum(x, y), [(4, 5), (4, 5)], num_input=2))
