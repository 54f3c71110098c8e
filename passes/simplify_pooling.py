"""Write adaptive average pooling as the plain operator it is for the shape at hand.

Before  adaptive_avg_pool2d(x, output_size)
After   x                                         output_size is x's own
        mean(x, axis=[2, 3], keepdims=True)       output_size is 1 x 1
        avg_pool2d(x, pool_size=in / out)         output_size divides x's, in both directions
        adaptive_avg_pool2d(x, output_size)       otherwise: windows of unequal size
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir import IRModule
from tvm.ir.transform import PassContext

from tvm_rsq.passes.rewrite_bindings import operator_name, rewrite_main, static_shape


@tvm.transform.module_pass(opt_level=0, name="SimplifyPooling")
@dataclass(frozen=True)
class SimplifyPooling:
    """No options."""

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        return rewrite_main(mod, lambda builder, value: _simplify(value))


def _simplify(value: relax.Expr) -> relax.Expr | None:
    if operator_name(value) != "relax.nn.adaptive_avg_pool2d":
        return None
    x = value.args[0]
    given, wanted = static_shape(x)[2:], static_shape(value)[2:]
    if given == wanted:
        return x
    if wanted == (1, 1):
        return relax.op.mean(x, [2, 3], keepdims=True)
    if any(extent % size for extent, size in zip(given, wanted, strict=True)):
        return None
    window = [extent // size for extent, size in zip(given, wanted, strict=True)]
    return relax.op.nn.avg_pool2d(x, window, window)
