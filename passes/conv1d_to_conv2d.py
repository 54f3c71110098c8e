"""Write one-dimensional convolution and pooling as two-dimensional ones of height 1.

Before  x: (N, C, W);  conv1d(x, w: (O, I, K), padding=[l, r])
After   squeeze(conv2d(expand_dims(x, 2), expand_dims(w, 2), padding=[0, l, 0, r]), 2)

max_pool1d, avg_pool1d and adaptive_avg_pool1d likewise. fold_params, behind, evaluates expand_dims(w).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir import Attrs, IRModule
from tvm.ir.transform import PassContext

from tvm_rsq.passes.rewrite_bindings import operator_name, rewrite_main

Widened = Callable[[list[relax.Expr], Attrs], relax.Expr]


@tvm.transform.module_pass(opt_level=0, name="Conv1dToConv2d")
@dataclass(frozen=True)
class Conv1dToConv2d:
    """No options."""

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        return rewrite_main(mod, _widen)


def _widen(builder: relax.BlockBuilder, value: relax.Expr) -> relax.Expr | None:
    name = operator_name(value)
    if name not in _TWO_DIMENSIONAL:
        return None
    operands = [builder.emit(relax.op.expand_dims(operand, 2)) for operand in value.args]
    return relax.op.squeeze(builder.emit(_TWO_DIMENSIONAL[name](operands, value.attrs)), [2])


def _pair(values: Iterable[int], other: int) -> list[int]:
    """[other, value]"""
    return [other, *(int(value) for value in values)]


def _pads(values: Iterable[int]) -> list[int]:
    left, right = ([int(value) for value in values] * 2)[:2]
    return [0, left, 0, right]


def _conv(operands: list[relax.Expr], attrs: Attrs) -> relax.Expr:
    return relax.op.nn.conv2d(
        *operands,
        strides=_pair(attrs.strides, 1),
        padding=_pads(attrs.padding),
        dilation=_pair(attrs.dilation, 1),
        groups=int(attrs.groups),
    )


def _pool(operator: Callable[..., relax.Expr]) -> Widened:
    def pool(operands: list[relax.Expr], attrs: Attrs) -> relax.Expr:
        return operator(
            *operands, _pair(attrs.pool_size, 1), _pair(attrs.strides, 1), _pads(attrs.padding), _pair(attrs.dilation, 1),
            bool(attrs.ceil_mode), bool(attrs.count_include_pad),
        )  # fmt: skip

    return pool


_TWO_DIMENSIONAL: dict[str, Widened] = {
    "relax.nn.conv1d": _conv,
    "relax.nn.max_pool1d": _pool(relax.op.nn.max_pool2d),
    "relax.nn.avg_pool1d": _pool(relax.op.nn.avg_pool2d),
    "relax.nn.adaptive_avg_pool1d": lambda operands, attrs: relax.op.nn.adaptive_avg_pool2d(*operands, _pair(attrs.output_size, 1)),
}
