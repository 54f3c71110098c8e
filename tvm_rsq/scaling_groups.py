"""Tensors whose channels can be rescaled together without changing what the network computes.

    y_c = W_c x + b_c;  z = relu(y);  v = V z          is, for any s_c > 0,          y_c s_c = (s_c W_c) x + s_c b_c;  v = (V / s) (s z)

A group is a set of variables that any such scale has to pass through alike: sums tie their operands, activations, pooling and means what
they read to what they give. Layers that compute a member are its producers, those that read one its consumers. relu6 lets a channel be
scaled as long as the scaled values stay below 6, so such groups are marked. Groups that touch anything else (the network's inputs and
outputs, sigmoids, products, concatenations) are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tvm_rsq.model import Model
from tvm_rsq.passes.dataflow import OUTPUT, Dataflow, Node

_HOMOGENEOUS = ("nn.relu", "nn.leakyrelu", "clip", "nn.max_pool2d", "nn.avg_pool2d", "nn.adaptive_avg_pool2d", "mean")
_RESHAPES = ("reshape", "flatten", "squeeze")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingGroup:
    """One group.   members: variables in execution order, the channels on their last axis

    producers, consumers  layers by weight; of a depthwise convolution the one tensor is read, the other computed, each a group of its own
    biases     parameters that are added to members
    linear     no member is an activation
    ceiling    of the clips among the members, infinite without any
    depthwise  all consumers are depthwise convolutions
    """

    members: tuple[str, ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    biases: tuple[str, ...]
    linear: bool
    ceiling: float
    depthwise: bool


def scaling_groups(model: Model) -> tuple[ScalingGroup, ...]:
    """The groups of a deploy-form network that have both producers and consumers, in execution order."""
    return _Search(model).run()


@dataclass
class _Search:
    model: Model
    view: Dataflow = field(init=False)
    parent: dict[str, str] = field(default_factory=dict)
    fixed: set[str] = field(default_factory=set)
    producers: dict[str, str] = field(default_factory=dict)
    consumers: dict[str, list[str]] = field(default_factory=dict)
    biases: dict[str, str] = field(default_factory=dict)

    def run(self) -> tuple[ScalingGroup, ...]:
        self.view = view = Dataflow(self.model.module)
        self.fixed.update(spec.name for spec in self.model.inputs)
        self.fixed.update(name for name, users in view.users.items() if OUTPUT in users)
        for node in view.nodes.values():
            self._place(node)
        fixed = {self._root(name) for name in self.fixed}
        groups: dict[str, list[str]] = {}
        for name in view.nodes:
            groups.setdefault(self._root(name), []).append(name)
        found = [self._group(members) for root, members in groups.items() if root not in fixed]
        return tuple(group for group in found if group.producers and group.consumers)

    def _place(self, node: Node) -> None:
        view, operands = self.view, node.operands
        known = [view.is_param(name) for name in operands]
        if node.op in ("nn.conv2d", "matmul") and known == [False, True] and len(view.users[operands[1]]) == 1 and self._separable(node):
            self.producers[node.name] = operands[1]
            self.consumers.setdefault(operands[0], []).append(operands[1])
        elif node.op == "add" and known == [False, True] and self._per_channel(node):
            self.biases[node.name] = operands[1]
            self._tie(node.name, operands[0])
        elif node.op == "add" and known == [False, False] and view.shape(operands[0]) == view.shape(operands[1]):
            self._tie(node.name, operands[0])
            self._tie(node.name, operands[1])
        elif node.op in _HOMOGENEOUS and self._keeps_channels(node):
            self._tie(node.name, operands[0])
        elif node.op in _RESHAPES and np.prod(view.shape(operands[0])[1:]) == view.shape(operands[0])[-1] == view.shape(node.name)[-1]:
            self._tie(node.name, operands[0])
        else:
            self.fixed.update(name for name in (node.name, *operands) if not view.is_param(name))

    def _separable(self, node: Node) -> bool:
        """Ordinary or depthwise (one input and one output channel per group); dense on rows of features."""
        if node.op == "matmul":
            return True
        weight, groups = self.model.params[node.operands[1]], int(node.expr.attrs.groups)
        return groups == 1 or (weight.shape[-1] == 1 and weight.shape[0] == groups)

    def _per_channel(self, node: Node) -> bool:
        bias = node.operands[1]
        value = self.model.params[bias]
        return value.size == value.shape[-1] == self.view.shape(node.name)[-1] and len(self.view.users[bias]) == 1

    def _keeps_channels(self, node: Node) -> bool:
        """No reduction over channels, and a lower bound that scaling keeps: 0."""
        if node.op == "clip":
            return float(node.expr.args[1].value) == 0
        rank = len(self.view.shape(node.operands[0]))
        axes = node.expr.attrs.axis if node.op == "mean" else ()
        return axes is not None and rank - 1 not in {int(axis) % rank for axis in axes}

    def _group(self, members: list[str]) -> ScalingGroup:
        nodes, params = [self.view.nodes[name] for name in members], self.model.params
        consumers = [layer for name in members for layer in self.consumers.get(name, ())]
        activations = [node for node in nodes if node.op in ("nn.relu", "nn.leakyrelu", "clip")]
        return ScalingGroup(
            members=tuple(members),
            producers=tuple(self.producers[name] for name in members if name in self.producers),
            consumers=tuple(consumers),
            biases=tuple(self.biases[name] for name in members if name in self.biases),
            linear=not activations,
            ceiling=min((float(node.expr.args[2].value) for node in activations if node.op == "clip"), default=np.inf),
            depthwise=all(is_depthwise(params[layer]) for layer in consumers),
        )

    def _tie(self, a: str, b: str) -> None:
        self.parent[self._root(a)] = self._root(b)

    def _root(self, name: str) -> str:
        while self.parent.setdefault(name, name) != name:
            name = self.parent[name]
        return name


def is_depthwise(weight: np.ndarray) -> bool:
    """Whether a deploy-form weight (O, KH, KW, I) reads one channel for each that it gives. A separable layer of one channel is both."""
    return weight.ndim == 4 and weight.shape[-1] == 1


def rescaled(params: Mapping[str, np.ndarray], group: ScalingGroup, factor: np.ndarray) -> dict[str, np.ndarray]:
    """The parameters that change when the group's channels are multiplied by `factor` (C,), positive."""
    found: dict[str, np.ndarray] = {}

    def multiply(name: str, by: np.ndarray, axis: int) -> None:
        value = found.get(name, params[name])
        shape = [1] * value.ndim
        shape[axis] = -1
        found[name] = (value.astype(np.float64) * by.reshape(shape)).astype(np.float32)

    for layer in group.producers:
        multiply(layer, factor, 0 if params[layer].ndim == 4 else -1)
    for bias in group.biases:
        multiply(bias, factor, -1)
    for layer in group.consumers:
        weight = params[layer]
        multiply(layer, 1 / factor, 0 if weight.ndim == 2 or is_depthwise(weight) else -1)
    return found
