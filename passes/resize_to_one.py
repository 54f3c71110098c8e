"""Resizing to an extent of 1 whose corners are aligned, for LegalizeOps: TVM divides by the extent less 1, and ends with an error.

Before   y = R.image.resize2d(x, (1, 5), layout="NHWC", method="linear", coordinate_transformation_mode="align_corners")
After    y = R.call_tir(cls.resize2d, (x,), ...), the first row of a resize to (2, 5)

Aligned corners place the only pixel where the first one is, as ONNX has it and as the first of two is placed. Other resizes are TVM's.
"""

from __future__ import annotations

from tvm import relax, te, topi


def legalize_resize2d(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """relax.image.resize2d -> call_tir of a function named resize2d."""
    attrs, size = call.attrs, [int(extent) for extent in call.args[1].values]

    def resized(x: te.Tensor) -> te.Tensor:
        made = topi.image.resize2d(
            x, roi=attrs.roi, size=[max(extent, least) for extent in size], layout=attrs.layout, method=attrs.method,
            coordinate_transformation_mode=attrs.coordinate_transformation_mode, rounding_method=attrs.rounding_method,
            bicubic_alpha=attrs.cubic_alpha, bicubic_exclude=attrs.cubic_exclude, extrapolation_value=attrs.extrapolation_value,
        )  # fmt: skip
        return made if min(size) >= least else te.compute(call.ty.shape.values, made.__call__, name="first")

    least = 2 if attrs.coordinate_transformation_mode == "align_corners" else 1
    return builder.call_te(resized, call.args[0], primfunc_name_hint="resize2d")
