"""The parameter or constant of an element-wise operator comes second and has the rank that its use calls for.

Before  add(b, matmul(x, w)), b: (1, O)     multiply(s, y), s: (C, 1, 1), y: (N, C, H, W)
After   add(matmul(x, w), reshape(b, (O,)))     multiply(y, reshape(s, (1, C, 1, 1)))

The bias of a dense layer is a vector; every other parameter gets the activation's rank. The reshapes are of parameters only:
fold_params evaluates them, so it runs before (to have plain parameters here) and behind.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir import GenericConst, IRModule
from tvm.ir.transform import PassContext

from tvm_rsq.passes.rewrite_bindings import operator_name, rewrite_main, static_shape

_COMMUTATIVE = frozenset(f"relax.{name}" for name in ("add", "multiply", "maximum", "minimum"))
_ALIGNED = _COMMUTATIVE | {"relax.subtract", "relax.divide", "relax.power"}


@tvm.transform.module_pass(opt_level=0, name="OrderOperands")
@dataclass(frozen=True)
class OrderOperands:
    """No options; main's attribute num_input says where the parameters begin."""

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        main = mod["main"]
        params = set(list(main.params)[int(main.attrs["num_input"]) :])

        def order(builder: relax.BlockBuilder, value: relax.Expr) -> relax.Expr | None:
            name = operator_name(value)
            if name not in _ALIGNED:
                return None
            first, second = value.args
            stored = [
                operand in params if isinstance(operand, relax.Var) else isinstance(operand, GenericConst) for operand in (first, second)
            ]
            if stored == [True, False] and name in _COMMUTATIVE:
                first, second = second, first
            elif stored != [False, True]:
                return None
            return relax.Call(value.op, [first, _aligned(builder, first, second)], value.attrs, value.ty_args)

        return rewrite_main(mod, order)


def _aligned(builder: relax.BlockBuilder, activation: relax.Expr, operand: relax.Expr) -> relax.Expr:
    if not isinstance(operand, relax.Var):
        return operand
    shape, rank = static_shape(operand), activation.ty.ndim
    producer = builder.lookup_binding(activation) if isinstance(activation, relax.Var) else None
    if operator_name(producer) == "relax.matmul" and shape[-1:] == static_shape(activation)[-1:] and all(n == 1 for n in shape[:-1]):
        wanted = shape[-1:]
    else:
        wanted = (1,) * (rank - len(shape)) + shape
    return operand if wanted == shape else builder.emit(relax.op.reshape(operand, wanted))
