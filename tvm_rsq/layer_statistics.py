"""What a network's batch norms know of its layers' outputs: the mean and deviation of every channel, without data.

    batch_norm(x) = gamma * (x - mean) / sqrt(variance + epsilon) + beta        ->        N(beta, gamma^2 variance / (variance + epsilon))

The mean and variance of x are those of training, so the result has mean beta and deviation |gamma|, less what epsilon takes (Nagel et al.,
ICCV 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4, who leave epsilon out).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tvm import relax

from tvm_rsq.errors import ModelError
from tvm_rsq.model import Model
from tvm_rsq.passes.dataflow import Dataflow, Node, constant_array

_LAYERS = ("nn.conv2d", "matmul")
_KEEP_CHANNELS = ("squeeze", "expand_dims", "nn.batch_norm", "tuple_get_item")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NormalStatistics:
    """Channels that are taken to be normal: their means and deviations, float64 (C,) each."""

    mean: np.ndarray
    std: np.ndarray

    def scaled(self, factor: np.ndarray) -> NormalStatistics:
        """Of factor * x.   factor (C,)"""
        return NormalStatistics(mean=self.mean * factor, std=self.std * np.abs(factor))

    def shifted(self, offset: np.ndarray) -> NormalStatistics:
        """Of x + offset.   offset (C,)"""
        return NormalStatistics(mean=self.mean + offset, std=self.std)


def batch_norm_of_layers(source: Model) -> Mapping[str, NormalStatistics]:
    """Weight name -> statistics of the layer's output in the deploy form, bias included and before any activation.

    source  the canonical form (NCHW, batch norms kept); the deploy form calls its layers by the same names.
    Listed are the layers whose outputs batch norms alone read (biases may be added between). A batch norm that is behind no layer is listed
    by its gamma: so the layer is called that it becomes, if it does not vanish in the layer that follows. Sums and products with parameters
    that follow a batch norm are part of it. Empty where there is no batch norm.
    """
    view = Dataflow(source.module)
    found = {}
    for node in view.nodes.values():
        if node.op == "nn.batch_norm":
            name = _layer_behind(view, source.params, node) or view.operand(node.name, 1)
            if name is not None:
                found[name] = _statistics(view, source.params, node)
    return found


def statistics_of(statistics: Mapping[str, NormalStatistics], name: str, channels: int) -> NormalStatistics:
    """statistics[name]   ModelError: its arrays are not (channels,)."""
    found = statistics[name]
    if found.mean.shape != (channels,) or found.std.shape != (channels,):
        raise ModelError(f"statistics of {name} have shapes {found.mean.shape} and {found.std.shape}, expected ({channels},): its outputs")
    return found


def _layer_behind(view: Dataflow, params: Mapping[str, np.ndarray], batch_norm: Node) -> str | None:
    """The layer into which `fold_batch_norm` folds it: the one that computes, for it alone, what it reads."""
    reader, name = batch_norm.name, view.operand(batch_norm.name, 0)
    while name is not None and name in view.nodes and view.sole_user(name) == reader:
        node = view.nodes[name]
        if node.op in _LAYERS:
            weight = view.operand(name, 1)
            return weight if weight is not None and view.is_param(weight) and len(view.users[weight]) == 1 else None
        affine = _affine(view, params, node, constants=node.op == "add")
        if affine is None and node.op not in _KEEP_CHANNELS:
            return None
        reader, name = name, node.operands[0] if affine is None else affine[0]
    return None


def _statistics(view: Dataflow, params: Mapping[str, np.ndarray], node: Node) -> NormalStatistics:
    gamma, beta, _, variance = (_array(params, argument).astype(np.float64) for argument in node.expr.args[1:])
    gamma = gamma if node.expr.attrs.scale else np.ones_like(gamma)
    beta = beta if node.expr.attrs.center else np.zeros_like(beta)
    spread = variance + float(node.expr.attrs.epsilon)
    # A channel that never varied is the constant beta, also without an epsilon.
    share = np.divide(np.maximum(variance, 0), spread, out=np.zeros_like(spread), where=spread > 0)
    found = NormalStatistics(mean=beta, std=np.abs(gamma) * np.sqrt(share))
    name = view.sole_user(node.name)
    while name is not None and (user := view.sole_user(name)) is not None:
        affine = _affine(view, params, view.nodes[user], constants=False)
        if affine is None:
            break
        found = found.scaled(affine[1]) if view.nodes[user].op == "multiply" else found.shifted(affine[1])
        name = user
    return found


def _affine(view: Dataflow, params: Mapping[str, np.ndarray], node: Node, *, constants: bool) -> tuple[str, np.ndarray] | None:
    """(data, float64 (C,)) of a sum or product of data with a parameter, or also a constant, of one number per channel (axis 1)."""
    if node.op not in ("add", "multiply"):
        return None
    for data, other in (node.expr.args, reversed(node.expr.args)):
        known = view.is_param(other.name) if isinstance(other, relax.Var) else constants
        if not known or not isinstance(data, relax.Var) or view.is_param(data.name):
            continue
        array, shape = _array(params, other).astype(np.float64), view.shape(view.source(data))
        aligned = (1,) * (len(shape) - array.ndim) + array.shape
        if len(aligned) == len(shape) > 1 and aligned[1] in (1, shape[1]) and array.size == aligned[1]:
            return view.source(data), np.broadcast_to(array.reshape(-1), shape[1:2])
    return None


def _array(params: Mapping[str, np.ndarray], argument: relax.Expr) -> np.ndarray:
    return params[argument.name] if isinstance(argument, relax.Var) else constant_array(argument)
