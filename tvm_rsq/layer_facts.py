"""What deciding about one layer needs to know of it, and its weight under every way to compute it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tvm_rsq.codebook.fit_codebook import GRID
from tvm_rsq.codebook.fit_levels import fit_levels
from tvm_rsq.codebook.scaled_levels import ScaledLevels
from tvm_rsq.executor import Executor
from tvm_rsq.fit_codebook_grid import METHOD, fit_codebook_grid
from tvm_rsq.fit_scale import fit_scale
from tvm_rsq.layer_override import LayerScheme
from tvm_rsq.model import Model
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import Island, Islands
from tvm_rsq.quantize_layers import bias_of
from tvm_rsq.safe_weights import quantize_safely
from tvm_rsq.sum_groups import fits
from tvm_rsq.targets.workload import Accumulate16, RequantizeArithmetic
from tvm_rsq.tensor_quant import TensorQuant
from tvm_rsq.uniform import accumulator_scale_floor, bias_scale_floor
from tvm_rsq.weight_grid import WeightGrid, as_rows, from_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to compute a layer. Names and meanings as in LayerPlan; nonuniform: with a codebook."""

    scheme: LayerScheme
    requantize: RequantizeArithmetic = "float"
    accumulate16: Accumulate16 = 0
    nonuniform: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerFacts:
    """One layer of a deploy-form network.

    op        "conv2d", "depthwise_conv2d" or "dense"
    weight    float32; axis counts its output channels, and `inner` channels are read for each output
    bias      float32 (O,), None without one
    input, output  tensors; residual: the tensor that its kernel adds, None without one
    stored    whether the output is stored, that is requantized, rather than wanted in float
    bits      of the weight's grid
    mse       whether its scale is found by squared error (see fit_scale)
    importance  of its weights for a codebook, as of fit_codebook; None: all count the same
    book_channels  output channels that share a codebook; None: all
    fitted    grids and levels that were found already
    """

    name: str
    op: str
    weight: np.ndarray
    axis: int
    inner: int
    bias: np.ndarray | None
    input: str
    output: str
    residual: str | None
    stored: bool
    in_float: bool
    bits: int
    macs: int
    mse: bool = False
    importance: np.ndarray | None = None
    book_channels: int | None = None
    fitted: dict[tuple[object, ...], WeightGrid | ScaledLevels | None] = field(default_factory=dict, repr=False)

    def allows(self, candidate: Candidate, tensors: Mapping[str, TensorQuant]) -> bool:
        """Whether the layer's shape and its tensors permit it; what the weights permit is told by `fit`."""
        if candidate.requantize != "float" and not self.stored:
            return False
        if candidate.requantize == "shift" and self.residual and tensors[self.residual].scale != tensors[self.output].scale:
            return False
        if candidate.nonuniform and (candidate.accumulate16 or not self.fits_codebook):
            return False
        run = self.weight.size // self.weight.shape[self.axis]
        return not candidate.accumulate16 or fits(self.inner, run, candidate.accumulate16)

    @property
    def fits_codebook(self) -> bool:
        """Whether sums fit int32 whatever entries the weights have: roundings move them by gaps, which no floor of scales allows for.

        255 * 127 * run + 2^30 for the bias < 2^31
        """
        return 255 * GRID * (self.weight.size // self.weight.shape[self.axis]) < 2**30

    def fit(self, candidate: Candidate, tensors: Mapping[str, TensorQuant]) -> WeightGrid | None:
        """The weight's grid; None where no scale is allowed.   tensors: of its input and output, at least"""
        source, shift = tensors[self.input], candidate.requantize == "shift"
        bias = np.zeros(self.weight.shape[self.axis], np.float32) if self.bias is None else self.bias
        room = np.abs(bias.astype(np.float64))
        if shift:
            # The zero points are added to the accumulator before it is shifted: that sum has to fit as well.
            room = room + 256 * tensors[self.output].scale
        floor = np.maximum(accumulator_scale_floor(self.weight, self.axis, room, source), bias_scale_floor(bias, source.scale))
        rows, per_channel = as_rows(self.weight, self.axis), candidate.scheme == "per_channel"
        unit = tensors[self.output].scale / source.scale if shift else None
        if candidate.nonuniform:
            key = (self.bits, per_channel, unit, floor.tobytes())
            if key not in self.fitted:  # seconds, where scales are milliseconds
                self.fitted[key] = fit_codebook_grid(
                    rows, per_channel=per_channel, bits=self.bits, floor=floor, unit=unit, channels=self.book_channels,
                    importance=self.importance,
                )  # fmt: skip
            return self.fitted[key]  # type: ignore[return-value]
        scale = fit_scale(
            rows, per_channel=per_channel, bits=self.bits, floor=floor, unit=unit, accumulate16=candidate.accumulate16, inner=self.inner,
            mse=self.mse,
        )  # fmt: skip
        return None if scale is None else WeightGrid(scale=scale, bits=self.bits)

    def levels(self) -> ScaledLevels:
        """Of a layer in float that has a codebook."""
        key = (self.bits, "float")
        if key not in self.fitted:
            self.fitted[key] = fit_levels(as_rows(self.weight, self.axis), 2**self.bits, METHOD, importance=self.importance)
        return self.fitted[key]  # type: ignore[return-value]

    def integers(self, candidate: Candidate, grid: WeightGrid) -> np.ndarray:
        """int8 of the weight's shape under this candidate."""
        if not candidate.accumulate16:
            return grid.integers(self.weight, self.axis)
        rows = quantize_safely(as_rows(self.weight, self.axis), grid.scale, self.bits, candidate.accumulate16, self.inner)
        return from_rows(rows, self.weight.shape, self.axis)

    def real(self, integers: np.ndarray, grid: WeightGrid) -> np.ndarray:
        """float32: what the integer network computes with."""
        return grid.real(integers, self.axis)

    def error_ratio(self, real: np.ndarray, baseline: np.ndarray) -> float:
        """Squared error of one weight (as of `real`) over another's; 1 where both are exact, infinite where only the baseline is."""
        own, other = (float(np.square(made - self.weight, dtype=np.float64).sum()) for made in (real, baseline))
        return own / other if other > 0 else 1.0 if own == 0 else np.inf


def layer_facts(
    model: Model, executor: Executor, view: Dataflow, islands: Islands, bits: Mapping[str, int], *, mse: bool = False,
    book_channels: int | None = None,
) -> tuple[LayerFacts, ...]:  # fmt: skip
    """Of every layer in execution order.   bits: layer -> bits of its weight; book_channels: of layers that are not depthwise"""
    island_of = {island.layer: island for island in islands.islands if island.layer}
    found = []
    for layer in executor.layers:
        island, weight = island_of[layer.name], model.params[layer.name]
        bias = bias_of(view, island.ops)
        out, op = view.shape(layer.binding), _operator(view, layer.binding)
        found.append(
            LayerFacts(
                name=layer.name, op=op, weight=weight, axis=layer.axis,
                inner=weight.shape[-1] if layer.axis == 0 else weight.shape[0],
                bias=None if bias is None else model.params[bias].reshape(-1),
                input=layer.input, output=island.output, residual=_residual(view, island), stored=island.output in islands.quantized,
                in_float=island.kind == "float_layer", bits=bits[layer.name], macs=int(np.prod(out[:-1], dtype=np.int64)) * weight.size,
                mse=mse, book_channels=None if op == "depthwise_conv2d" else book_channels,
            )
        )  # fmt: skip
    return tuple(found)


def _residual(view: Dataflow, island: Island) -> str | None:
    return next((name for op in island.ops[1:] for name in view.nodes[op].operands if name in island.inputs), None)


def _operator(view: Dataflow, binding: str) -> str:
    node = view.nodes[binding]
    if node.op == "matmul":
        return "dense"
    groups = int(node.expr.attrs.groups)
    return "depthwise_conv2d" if groups > 1 and groups == view.shape(binding)[-1] else "conv2d"
