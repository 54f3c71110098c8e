"""Integer weights and biases of every layer, and codes of those in float, as a plan says: what the annotation writes into the network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tvm_rsq.errors import ConfigError
from tvm_rsq.layer_override import CODEBOOK_BITS
from tvm_rsq.layer_record import LayerPlan
from tvm_rsq.model import Model
from tvm_rsq.passes.annotate_qdq import FloatCodes, LayerQuant
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import find_islands
from tvm_rsq.plan import QuantPlan
from tvm_rsq.safe_weights import keeps_promise, quantize_safely
from tvm_rsq.sum_groups import fits
from tvm_rsq.weight_grid import as_rows, from_rows


def quantize_layers(model: Model, plan: QuantPlan) -> Mapping[str, LayerQuant]:
    """Weight name -> LayerQuant of every layer that the plan quantizes.   ConfigError: weights that cannot be what the plan promises."""
    view = Dataflow(model.module)
    in_float = {layer.name for layer in plan.layers if layer.scheme == "float"}
    islands = {island.layer: island for island in find_islands(view, in_float).islands if island.layer}
    found = {}
    for layer in plan.layers:
        if layer.scheme == "float":
            continue
        island = islands[layer.name]
        weight = model.params[layer.name]
        axis = weight.ndim - 1 if layer.op == "dense" else 0
        scale = layer.grid.scale
        input_scale = plan.tensors[view.variable(island.ops[0], 0)].scale
        bias = bias_of(view, island.ops)
        found[layer.name] = LayerQuant(
            weight=_integer_weight(weight, axis, layer),
            scale=scale,
            axis=axis,
            input_scale=input_scale,
            bias=None if bias is None else _integer_bias(model.params[bias], scale, input_scale),
            requantize=layer.requantize,
            accumulate16=layer.accumulate16,
            books=_books(layer),
        )
    return found


def code_float_layers(model: Model, plan: QuantPlan) -> Mapping[str, FloatCodes]:
    """Weight name -> FloatCodes of every layer in float that has a codebook."""
    found = {}
    for layer in plan.layers:
        if (levels := layer.levels) is None:
            continue
        weight = model.params[layer.name]
        axis = weight.ndim - 1 if layer.op == "dense" else 0
        products = levels.products(levels.codes(as_rows(weight, axis)))
        found[layer.name] = FloatCodes(weight=from_rows(products, weight.shape, axis), levels=levels)
    return found


def _books(layer: LayerPlan) -> tuple[tuple[int, ...], ...]:
    """What its integers may be, where codes of them take less than a byte."""
    if layer.weight_bits not in CODEBOOK_BITS:
        return ()
    if layer.codebook:
        return tuple(tuple(int(entry) for entry in book) for book in layer.codebook)
    levels = [int(level) for level in layer.grid.levels(1)[0]]
    return (tuple(levels + levels[-1:] * (2**layer.weight_bits - len(levels))),)


def bias_of(view: Dataflow, ops: tuple[str, ...]) -> str | None:
    """The bias parameter of a layer's island, None where it has none."""
    name = view.operand(ops[1], 1) if len(ops) > 1 and view.nodes[ops[1]].op == "add" else None
    return name if view.is_param(name) else None


def _integer_weight(weight: np.ndarray, axis: int, layer: LayerPlan) -> np.ndarray:
    d = layer.accumulate16
    if not d:
        return layer.grid.integers(weight, axis)
    inner = weight.shape[0] if layer.op == "dense" else weight.shape[-1]
    rows = as_rows(weight, axis)
    if not fits(inner, rows.shape[1], d):
        multiple = d if d >= 8 else 4 * d
        raise ConfigError(f"layer {layer.name} reads {inner} channels, expected a multiple of {multiple} for accumulate16={d}")
    rows = quantize_safely(rows, layer.grid.scale, layer.weight_bits, d, inner)
    if not keeps_promise(rows, d, inner):
        raise ConfigError(f"the weights of {layer.name} do not keep the promise of accumulate16={d}; make the plan again")
    return from_rows(rows, weight.shape, axis)


def _integer_bias(bias: np.ndarray, scale: np.ndarray, input_scale: float) -> np.ndarray:
    # The scales leave the rounded bias within 30 bits (see uniform.bias_scale_floor); the product is what annotate_qdq writes.
    unit = (scale * np.float32(input_scale)).astype(np.float64)
    return np.clip(np.rint(bias.astype(np.float64) / unit), -(2**31) + 1, 2**31 - 1).astype(np.int32)
