"""What every Model satisfies, checked at the end of each import: refused in one line rather than failing later."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from tvm import relax, tirx
from tvm.ir import IRModule

from tvm_rsq.errors import ModelError, UnsupportedError
from tvm_rsq.frontend.operators import CANONICAL_OPERATORS
from tvm_rsq.frontend.value_sizes import check_value
from tvm_rsq.passes.rewrite_bindings import operator_name, static_shape

_LAYERS = ("relax.nn.conv2d", "relax.matmul")


def check_finite(params: Mapping[str, np.ndarray]) -> None:
    """ModelError: a parameter holds NaN or infinity."""
    for name, value in params.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            count = int(value.size - np.isfinite(value).sum())
            raise ModelError(
                f"parameter {name} holds {count} NaN or infinite values of {value.size}, expected finite ones; repair the checkpoint"
            )


def check_inputs(module: IRModule, num_input: int) -> None:
    """ModelError: no input, or one that is not float32 with a static shape."""
    inputs = list(module["main"].params)[:num_input]
    if not inputs:
        raise ModelError("the network has no input, expected at least one float32 tensor")
    for var in inputs:
        if not isinstance(var.ty, relax.TensorType) or str(var.ty.dtype) != "float32":
            raise ModelError(f"input {var.name} is {getattr(var.ty, 'dtype', var.ty)}, expected float32; convert it outside the network")
        if var.ty.shape is None or not all(isinstance(extent, tirx.IntImm) for extent in var.ty.shape.values):
            raise UnsupportedError(
                f"input {var.name} has the dynamic shape {var.ty.shape}, expected a static one; pass batch= or export it static"
            )


def check_batch(module: IRModule, batch: int) -> None:
    """ModelError: an output whose first extent is not `batch`, so that the network fixes its batch somewhere inside."""
    body = module["main"].body.body
    for output in body.fields if isinstance(body, relax.Tuple) else [body]:
        shape = static_shape(output)
        if shape[:1] != (batch,):
            raise ModelError(
                f"an output has shape {list(shape)} for batch {batch}: a reshape inside fixes the batch; export the network with that batch"
            )


def check_canonical(module: IRModule, num_input: int) -> None:
    """UnsupportedError: an operator outside CANONICAL_OPERATORS, a value beyond check_value, a layer whose weight is computed.
    ModelError: no layer at all.
    """
    main = module["main"]
    params = set(list(main.params)[num_input:])
    layers = 0
    for block in main.body.blocks:
        for binding in block.bindings:
            value, name = binding.value, binding.var.name
            if not isinstance(value, relax.Call):
                continue
            operator = operator_name(value)
            if isinstance(value.ty, relax.TensorType):
                if value.ty.shape is None or not all(isinstance(extent, tirx.IntImm) for extent in value.ty.shape.values):
                    raise UnsupportedError(f"{operator} (tensor {name}) gives a shape that depends on data; export it with static shapes")
                check_value(name, static_shape(value))
            if operator not in CANONICAL_OPERATORS:
                raise UnsupportedError(
                    f"{operator or 'a TIR call'} (tensor {name}) is not supported; replace it or keep it outside the network"
                )
            if isinstance(value.ty, relax.TensorType) and str(value.ty.dtype) != "float32":
                raise UnsupportedError(f"{operator} (tensor {name}) gives {value.ty.dtype}, expected float32 throughout the network")
            if operator in _LAYERS:
                if value.args[1] not in params or (operator == "relax.matmul" and value.args[1].ty.ndim != 2):
                    raise UnsupportedError(
                        f"{operator} (tensor {name}) has a computed operand, expected a stored weight, for a dense layer a matrix"
                    )
                layers += 1
    if not layers:
        raise ModelError("the network has no convolution and no dense layer, so there is nothing to quantize")
