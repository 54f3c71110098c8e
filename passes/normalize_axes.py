"""Axes count from the front, in ascending order, and are spelled out.

Before  mean(x, axis=[-1, -2])    mean(x, axis=None)    softmax(x, axis=-1)    expand_dims(x, axis=[-1])    split(x, 2, axis=-3)
After   mean(x, axis=[2, 3])      mean(x, axis=[0, ..])    softmax(x, axis=1)  expand_dims(x, axis=[4])     split(x, [c], axis=1)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir import IRModule
from tvm.ir.transform import PassContext

from tvm_rsq.errors import UnsupportedError
from tvm_rsq.passes.rewrite_bindings import operator_name, rewrite_main, static_shape


@tvm.transform.module_pass(opt_level=0, name="NormalizeAxes")
@dataclass(frozen=True)
class NormalizeAxes:
    """No options."""

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        return rewrite_main(mod, lambda builder, value: _normalize(value))


def _normalize(value: relax.Expr) -> relax.Expr | None:
    name = operator_name(value)
    if not name or not value.args:
        return None
    x = value.args[0]
    match name:
        case "relax.mean" | "relax.max":
            operator = relax.op.mean if name == "relax.mean" else relax.op.max
            return operator(x, _axes(value.attrs.axis, x.ty.ndim), bool(value.attrs.keepdims))
        case "relax.nn.softmax":
            return relax.op.nn.softmax(x, int(value.attrs.axis) % x.ty.ndim)
        case "relax.concat":
            return relax.op.concat(x, int(value.attrs.axis or 0) % value.ty.ndim)
        case "relax.split":
            axis = int(value.attrs.axis) % x.ty.ndim
            if not isinstance(value.ty, relax.TupleType):
                raise UnsupportedError(f"split of a tensor of shape {list(static_shape(x))} into one part; remove it")
            return relax.op.split(x, _cuts(value, axis), axis)
        case "relax.squeeze":
            unit = [axis for axis, extent in enumerate(static_shape(x)) if extent == 1]
            return relax.op.squeeze(x, unit if value.attrs.axis is None else _axes(value.attrs.axis, x.ty.ndim))
        case "relax.expand_dims":
            return relax.op.expand_dims(x, _axes(value.attrs.axis, value.ty.ndim))
        case "relax.permute_dims":
            rank = x.ty.ndim
            axes = range(rank)[::-1] if value.attrs.axes is None else [int(axis) % rank for axis in value.attrs.axes]
            return relax.op.permute_dims(x, list(axes))
    return None


def _axes(axes: Iterable[int] | None, rank: int) -> list[int]:
    return list(range(rank)) if axes is None else sorted(int(axis) % rank for axis in axes)


def _cuts(value: relax.Call, axis: int) -> list[int]:
    """Where a split cuts, whether it was given as positions or as a number of parts."""
    extents = [int(field.shape.values[axis]) for field in value.ty.fields]
    return [sum(extents[: number + 1]) for number in range(len(extents) - 1)]
