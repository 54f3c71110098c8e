"""Kernels whose LLVM intrinsics are replaced by plain arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tvm_ffi
from tvm.ir import Call, Expr
from tvm.tirx import PrimFunc

_NAME = tvm_ffi.get_global_func("target.llvm_get_intrinsic_name")
_CALLS = ("tirx.call_llvm_pure_intrin", "tirx.call_llvm_intrin")


def replaced_intrinsics(prim_func: PrimFunc, meaning: Mapping[str, Callable[..., Expr]], families: tuple[str, ...]) -> PrimFunc:
    """`prim_func` without calls of intrinsics whose names begin with one of `families`.

    meaning  the beginning of a name, as far as it says what is done -> what makes it of the operands

    KeyError: one of the families that `meaning` does not know.
    """

    def replace(call: Call) -> Expr:
        if getattr(call.op, "name", "") not in _CALLS:
            return call
        name, *operands = _NAME(int(call.args[0])), *call.args[1:]
        if not name.startswith(families):
            return call
        known = next((known for known in meaning if f"{name}.".startswith(f"{known}.")), name)
        return meaning[known](*operands)

    return prim_func.with_body(tvm_ffi.structural_map(prim_func.body, (Call, replace)))
