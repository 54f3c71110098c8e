"""FoldPad: zeros in front of convolutions and counting averages fold; other pads stay."""

from __future__ import annotations

import pytest
from canonical_case import check_declined, check_rewrite, function
from tvm import relax

from tvm_rsq.passes.fold_pad import FoldPad

op = relax.op
IMAGE, KERNEL = (1, 2, 6, 6), (3, 2, 3, 3)
WIDTH = [0, 0, 0, 0, 0, 1, 2, 3]


def padded(emit, x, value=0.0, width=WIDTH, mode="constant"):
    return emit(op.nn.pad(x, width, mode, value))


def test_pad_folds_into_a_convolution():
    before = function(lambda emit, x, w: op.nn.conv2d(padded(emit, x), w, strides=2, padding=[1, 0, 0, 1]), [IMAGE, KERNEL])
    check_rewrite(FoldPad(), before, function(lambda emit, x, w: op.nn.conv2d(x, w, strides=2, padding=[1, 2, 1, 4]), [IMAGE, KERNEL]))


def test_pad_folds_into_a_counting_average():
    before = function(lambda emit, x: op.nn.avg_pool2d(padded(emit, x), (3, 3), padding=[1, 1, 1, 1], count_include_pad=True), [IMAGE])
    after = function(lambda emit, x: op.nn.avg_pool2d(x, (3, 3), padding=[1, 3, 2, 4], count_include_pad=True), [IMAGE])
    check_rewrite(FoldPad(), before, after)


def test_pad_of_channels_folds_into_a_three_dimensional_average():
    x = (1, 1, 6, 4, 4)
    before = function(
        lambda emit, x: op.nn.avg_pool3d(padded(emit, x, width=[0, 0, 0, 0, 1, 2, 0, 0, 0, 0]), (4, 1, 1), count_include_pad=True), [x]
    )
    after = function(lambda emit, x: op.nn.avg_pool3d(x, (4, 1, 1), padding=[1, 0, 0, 2, 0, 0], count_include_pad=True), [x])
    check_rewrite(FoldPad(), before, after)


def test_the_pad_stays_for_its_other_users():
    def body(emit, x, w):
        pad = padded(emit, x)
        return relax.Tuple([emit(op.nn.conv2d(pad, w)), pad])

    def after(emit, x, w):
        pad = padded(emit, x)
        return relax.Tuple([emit(op.nn.conv2d(x, w, padding=[0, 2, 1, 3])), pad])

    check_rewrite(FoldPad(), function(body, [IMAGE, KERNEL]), function(after, [IMAGE, KERNEL]))


DECLINED = {
    "a value": lambda emit, x: op.nn.avg_pool2d(padded(emit, x, value=1.0), (3, 3), count_include_pad=True),
    "channels": lambda emit, x: op.nn.avg_pool2d(padded(emit, x, width=[0, 0, 1, 0, 0, 0, 0, 0]), (3, 3), count_include_pad=True),
    "an average of what is there": lambda emit, x: op.nn.avg_pool2d(padded(emit, x), (3, 3)),
    "an average that rounds up": lambda emit, x: op.nn.avg_pool2d(padded(emit, x), (3, 3), (2, 2), ceil_mode=True, count_include_pad=True),
    "max pooling": lambda emit, x: op.nn.max_pool2d(padded(emit, x), (3, 3)),
    "reflection": lambda emit, x: op.nn.avg_pool2d(padded(emit, x, mode="reflect"), (3, 3), count_include_pad=True),
}


@pytest.mark.parametrize("reason", DECLINED)
def test_other_pads_stay(reason):
    check_declined(FoldPad(), function(DECLINED[reason], [IMAGE]))
