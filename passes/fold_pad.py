"""Fold an explicit zero padding into the operator behind it.

Before  conv2d(nn.pad(x, [0, 0, 0, 0, t, b, l, r]), w, padding=[t', l', b', r'])
After   conv2d(x, w, padding=[t + t', l + l', b + b', r + r'])

Likewise avg_pool2d and avg_pool3d that count padding and do not round up. Declines: a pad value other than zero, padding of batch or
channels in front of a convolution, and max pooling, which ignores its own padding but sees explicit zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir import IRModule
from tvm.ir.transform import PassContext

from tvm_rsq.passes.rewrite_bindings import operator_name, rewrite_main

_AVERAGES = {"relax.nn.avg_pool2d": relax.op.nn.avg_pool2d, "relax.nn.avg_pool3d": relax.op.nn.avg_pool3d}


@tvm.transform.module_pass(opt_level=0, name="FoldPad")
@dataclass(frozen=True)
class FoldPad:
    """No options."""

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        return rewrite_main(mod, _fold)


def _fold(builder: relax.BlockBuilder, value: relax.Expr) -> relax.Expr | None:
    name = operator_name(value)
    if name != "relax.nn.conv2d" and name not in _AVERAGES:
        return None
    attrs = value.attrs
    if name in _AVERAGES and (attrs.ceil_mode or not attrs.count_include_pad):
        return None
    pad = builder.lookup_binding(value.args[0]) if isinstance(value.args[0], relax.Var) else None
    if pad is None or operator_name(pad) != "relax.nn.pad" or str(pad.attrs.pad_mode) != "constant" or float(pad.attrs.pad_value) != 0.0:
        return None
    width = [int(entry) for entry in pad.attrs.pad_width]
    if any(width[:4]):
        return None
    before, after = width[4::2], width[5::2]
    padding = [int(own) + extra for own, extra in zip(attrs.padding, before + after, strict=True)]
    if name in _AVERAGES:
        return _AVERAGES[name](
            pad.args[0], list(attrs.pool_size), list(attrs.strides), padding, list(attrs.dilation), False, True, str(attrs.layout)
        )  # fmt: skip
    return relax.op.nn.conv2d(
        pad.args[0], value.args[1], list(attrs.strides), padding, list(attrs.dilation), int(attrs.groups), str(attrs.data_layout),
        str(attrs.kernel_layout),
    )  # fmt: skip
