"""Drop shape operators that change nothing and write the others in one form.

Before  reshape(x, own shape)   permute_dims(x, [0, 1, ..])   nn.pad(x, zeros)   astype(x, own type)
        expand_dims(squeeze(x, a), a)   squeeze(expand_dims(x, a), a)   concat((x,))
After   x

Before  reshape(y, t), y one of reshape(x, ..), expand_dims(x, ..), squeeze(x, ..)    reshape(x: (N, C, H, W), (N, 1, C, H, W))
After   reshape(x, t)                                                                 expand_dims(x, 1)

Axes must be normalized: runs behind NormalizeAxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir import IRModule
from tvm.ir.transform import PassContext

from tvm_rsq.passes.rewrite_bindings import operator_name, rewrite_main, static_shape

_INVERSE = {"relax.expand_dims": "relax.squeeze", "relax.squeeze": "relax.expand_dims"}


@tvm.transform.module_pass(opt_level=0, name="SimplifyShapes")
@dataclass(frozen=True)
class SimplifyShapes:
    """No options."""

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        return rewrite_main(mod, _simplify)


def _simplify(builder: relax.BlockBuilder, value: relax.Expr) -> relax.Expr | None:
    name = operator_name(value)
    if not name:
        return None
    x = value.args[0]
    match name:
        case "relax.reshape":
            inner = _producer(builder, x)
            x = inner.args[0] if inner is not None and operator_name(inner) in ("relax.reshape", *_INVERSE) else x
            given, wanted = static_shape(x), static_shape(value)
            if given == wanted:
                return x
            if len(given) == 4 and wanted == (given[0], 1, *given[1:]):
                return relax.op.expand_dims(x, 1)
            return relax.op.reshape(x, wanted)
        case "relax.permute_dims" if [int(axis) for axis in value.attrs.axes] == list(range(x.ty.ndim)):
            return x
        case "relax.nn.pad" if not any(int(width) for width in value.attrs.pad_width):
            return x
        case "relax.astype" if str(x.ty.dtype) == str(value.ty.dtype):
            return x
        case "relax.concat" if isinstance(x, relax.Tuple) and len(x.fields) == 1:
            return x.fields[0]
        case "relax.expand_dims" | "relax.squeeze":
            inner = _producer(builder, x)
            axes = [int(axis) for axis in value.attrs.axis]
            if not axes:
                return x
            if inner is not None and operator_name(inner) == _INVERSE[name] and [int(axis) for axis in inner.attrs.axis] == axes:
                return inner.args[0]
    return None


def _producer(builder: relax.BlockBuilder, x: relax.Expr) -> relax.Expr | None:
    return builder.lookup_binding(x) if isinstance(x, relax.Var) else None
