"""The mean of what every layer reads, channel by channel, as far as batch norms tell it. No data.

    layer's output            normal, from the statistics            relu, clip       mean of the clipped normal
    sum of normals            normal, as if independent              sum of others    sum of the means
    average, mean             the same mean (averages of padding are not told apart)
    reshape, transpose, concat and the like move means along
Nothing is known of what anything else computes: of a network's input, max pooling, a product, or the relu of what is not normal, such as a
sum with another relu's output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from tvm import relax

from tvm_rsq.clipped_normal import clipped_normal_mean
from tvm_rsq.layer_links import activation_bounds, biased_layers
from tvm_rsq.layer_statistics import NormalStatistics, statistics_of
from tvm_rsq.model import Model
from tvm_rsq.passes.dataflow import Dataflow, Node, constant_array

_AVERAGES = ("nn.avg_pool2d", "nn.adaptive_avg_pool2d")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Moments:
    """Of a tensor: float64 arrays of its rank, with extents of 1 where all positions are alike. std None: not normal."""

    mean: np.ndarray
    std: np.ndarray | None

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> _Moments:
        return _Moments(mean=move(self.mean), std=None if self.std is None else move(self.std))


def expected_inputs(model: Model, statistics: Mapping[str, NormalStatistics]) -> Mapping[str, np.ndarray]:
    """Weight name -> float64 (I,), the mean of every channel that the layer reads; layers of which it is not known are left out.

    model       deploy form
    statistics  weight name -> the layer's output before any activation, of this model
    ModelError: statistics of another shape, or not the deploy form.
    """
    view, layers = Dataflow(model.module), biased_layers(model)
    outputs = {layer.output: layer for layer in layers.values() if layer.name in statistics}
    known: dict[str, _Moments] = {}
    for node in view.nodes.values():
        rank = len(view.shape(node.name)) if isinstance(view.types[node.name], relax.TensorType) else 0
        if node.name in outputs:
            found = statistics_of(statistics, outputs[node.name].name, view.shape(node.name)[-1])
            along = (1,) * (rank - 1) + (-1,)
            moments: _Moments | None = _Moments(mean=found.mean.reshape(along), std=found.std.reshape(along))
        else:
            moments = _moments(view, model.params, node, known)
        if moments is not None:
            known[node.name] = moments
    return {name: _per_channel(known[layer.input].mean, view.shape(layer.input)) for name, layer in layers.items() if layer.input in known}


def _moments(view: Dataflow, params: Mapping[str, np.ndarray], node: Node, known: Mapping[str, _Moments]) -> _Moments | None:
    if node.op == "add":
        return _sum([_term(params, argument, known) for argument in node.expr.args])
    if any(operand not in known for operand in node.operands) or not node.operands:
        return None
    first = known[node.operands[0]]
    if (bounds := activation_bounds(node)) is not None:
        return None if first.std is None else _Moments(mean=clipped_normal_mean(first.mean, first.std, *bounds), std=None)
    if node.op in _AVERAGES:
        return _Moments(mean=first.mean.mean(axis=(1, 2), keepdims=True), std=None)
    if node.op == "mean":
        axes = None if node.expr.attrs.axis is None else tuple(int(axis) for axis in node.expr.attrs.axis)
        return _Moments(mean=first.mean.mean(axis=axes, keepdims=bool(node.expr.attrs.keepdims)), std=None)
    return _moved(view, node, [known[operand] for operand in node.operands])


def _moved(view: Dataflow, node: Node, parts: list[_Moments]) -> _Moments | None:
    """Of an operator that only moves values."""
    first, source = parts[0], view.shape(node.operands[0])
    if node.op in ("reshape", "flatten", "squeeze", "expand_dims"):
        return first.moved(lambda values: np.broadcast_to(values, source).reshape(view.shape(node.name)))
    if node.op == "permute_dims":
        axes = None if node.expr.attrs.axes is None else [int(axis) for axis in node.expr.attrs.axes]
        return first.moved(lambda values: values.transpose(axes))
    if node.op == "concat":
        shapes, axis = [view.shape(operand) for operand in node.operands], int(node.expr.attrs.axis)
        means, stds = zip(*((part.mean, part.std) for part in parts), strict=True)
        normal = all(std is not None for std in stds)
        return _Moments(mean=_joined(means, shapes, axis), std=_joined(stds, shapes, axis) if normal else None)
    return None


def _term(params: Mapping[str, np.ndarray], argument: relax.Expr, known: Mapping[str, _Moments]) -> _Moments | None:
    if isinstance(argument, relax.Var) and argument.name not in params:
        return known.get(argument.name)
    value = (params[argument.name] if isinstance(argument, relax.Var) else constant_array(argument)).astype(np.float64)
    return _Moments(mean=value, std=np.zeros_like(value))


def _sum(terms: list[_Moments | None]) -> _Moments | None:
    left, right = terms
    if left is None or right is None:
        return None
    std = None
    if left is not right and left.std is not None and right.std is not None:  # else they depend on each other
        std = np.hypot(left.std, right.std)
    return _Moments(mean=left.mean + right.mean, std=std)


def _joined(parts: tuple[np.ndarray, ...], shapes: list[tuple[int, ...]], axis: int) -> np.ndarray:
    """Concatenated; positions that are alike in all parts stay one."""
    axis %= len(shapes[0])
    others = np.broadcast_shapes(*((*part.shape[:axis], 1, *part.shape[axis + 1 :]) for part in parts))
    full = [(*others[:axis], shape[axis], *others[axis + 1 :]) for shape in shapes]
    return np.concatenate([np.broadcast_to(part, shape) for part, shape in zip(parts, full, strict=True)], axis)


def _per_channel(mean: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(C,): the mean over every axis but the last."""
    return np.broadcast_to(mean.reshape(-1, mean.shape[-1]).mean(axis=0), shape[-1:])
