"""Layers of the deploy form with their biases, and which of them feed each other directly.

    relu(conv2d(x, first) + bias) ---> conv2d(., second)        a link: first -> second, bounds 0 and infinity

An output channel of `first` is an input channel of `second`: what is done to the one can be undone in the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tvm_rsq.errors import ModelError
from tvm_rsq.model import Model
from tvm_rsq.passes.dataflow import Dataflow, Node


@dataclass(frozen=True, slots=True, kw_only=True)
class BiasedLayer:
    """A convolution or dense layer whose weight nothing else uses.

    name    its weight: (O, KH, KW, I / groups), or (I, O) of a dense layer
    bias    the parameter with one number per output channel that is added to its output alone, None without one
    input, output  tensors; the output is the sum with the bias
    groups  1 for a dense layer
    padded  whether it reads zeros around an image
    """

    name: str
    bias: str | None
    input: str
    output: str
    dense: bool
    groups: int
    padded: bool

    def matrix(self, weight: np.ndarray) -> np.ndarray:
        """The weight as (groups, O / groups, KH * KW, I / groups), a view."""
        if self.dense:
            return weight.T[None, :, None, :]
        outputs, height, width, inner = weight.shape
        return weight.reshape(self.groups, outputs // self.groups, height * width, inner)

    def scaled(self, weight: np.ndarray, outputs: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """float32 of the weight's shape: times one number per output channel (O,) and per input channel (I,), both float64."""
        matrix = self.matrix(weight) * outputs.reshape(self.groups, -1, 1, 1) * inputs.reshape(self.groups, 1, 1, -1)
        made = matrix[0, :, 0, :].T if self.dense else matrix.reshape(weight.shape)
        return np.ascontiguousarray(made, np.float32)

    def response(self, weight: np.ndarray, values: np.ndarray) -> np.ndarray:
        """float64 (O,): the layer's output, its bias aside, where every input channel is one number (I,) everywhere, padding included."""
        taps = self.matrix(weight).astype(np.float64).sum(axis=2)
        return np.einsum("goi,gi->go", taps, values.reshape(self.groups, -1)).reshape(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLink:
    """`second` alone reads min(max(output of first, low), high), or, unbounded, that output itself."""

    first: BiasedLayer
    second: BiasedLayer
    low: float
    high: float

    @property
    def keeps_factors(self) -> bool:
        """Whether a positive factor per channel passes through: f(s x) = s f(x)."""
        return self.low in (0, -math.inf) and self.high in (0, math.inf)


def biased_layers(model: Model) -> Mapping[str, BiasedLayer]:
    """Weight name -> layer, in execution order.   ModelError: `model` is not in the deploy form (`pipeline.prepare`)."""
    view = Dataflow(model.module)
    found = {}
    for node in view.nodes.values():
        if node.op == "nn.batch_norm" or (node.op == "nn.conv2d" and str(node.expr.attrs.kernel_layout) != "OHWI"):
            raise ModelError(f"{node.op} {node.name} is as in the canonical form, expected the deploy form; call pipeline.prepare first")
        weight = _weight(view, node)
        if weight is not None and view.is_param(weight) and len(view.users[weight]) == 1 and len(view.shape(weight)) in (2, 4):
            found[weight] = _layer(view, node, weight)
    return found


def layer_links(model: Model) -> tuple[LayerLink, ...]:
    """In execution order of the first layers. Errors as of `biased_layers`."""
    view, layers = Dataflow(model.module), biased_layers(model)
    found = []
    for first in layers.values():
        low, high = -math.inf, math.inf
        user = view.sole_user(first.output)
        if user is not None and (bounds := activation_bounds(view.nodes[user])) is not None:
            low, high = bounds
            user = view.sole_user(user)
        second = layers.get(_weight(view, view.nodes[user]) or "") if user is not None else None
        if second is not None:
            found.append(LayerLink(first=first, second=second, low=low, high=high))
    return tuple(found)


def activation_bounds(node: Node) -> tuple[float, float] | None:
    """(low, high) of a relu or clip, None of any other operator."""
    if node.op == "nn.relu":
        return 0.0, math.inf
    if node.op == "clip":
        return float(node.expr.args[1].value), float(node.expr.args[2].value)
    return None


def _weight(view: Dataflow, node: Node) -> str | None:
    return view.operand(node.name, 1) if node.op in ("nn.conv2d", "matmul") else None


def _layer(view: Dataflow, node: Node, weight: str) -> BiasedLayer:
    dense = node.op == "matmul"
    user = view.sole_user(node.name)
    bias = None if user is None else _bias(view, view.nodes[user], view.shape(weight)[-1 if dense else 0])
    return BiasedLayer(
        name=weight, bias=bias, input=view.variable(node.name, 0), output=user if user is not None and bias is not None else node.name,
        dense=dense,
        groups=1 if dense else int(node.expr.attrs.groups), padded=not dense and any(int(p) for p in node.expr.attrs.padding),
    )  # fmt: skip


def _bias(view: Dataflow, node: Node, channels: int) -> str | None:
    """The parameter that a sum adds to a layer's output, one number per channel of the last axis, if nothing else uses it."""
    name = next((name for name in node.operands if view.is_param(name)), None) if node.op == "add" else None
    if name is None or len(view.users[name]) > 1:
        return None
    shape = view.shape(name)
    return name if shape == (1,) * (len(shape) - 1) + (channels,) else None
