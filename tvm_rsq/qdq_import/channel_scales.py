"""A scale for each channel of an activation, moved into the layers around it, which leaves one scale for all channels.

    conv(x, w), relu, quantize with s_c, depthwise(., v)     =     conv(x, w * s / s_c), relu, quantize with s, depthwise(., v * s_c / s)

The integers of both are the same: channels are multiplied by positive numbers, with which a relu commutes, and scales of weights per output
channel take them up. NNCF quantizes what depthwise convolutions read like that. Anything else around such a tensor is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import helper

from tvm_rsq.errors import UnsupportedError
from tvm_rsq.frontend.onnx_graph import attribute, describe
from tvm_rsq.qdq_import.affine import Constants
from tvm_rsq.qdq_import.source_quantization import StoredWeight


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChannelScales:
    """Of one activation.   tensor: its name; scale: float64 (C,); highest: the largest integer above the zero point"""

    tensor: str
    scale: np.ndarray
    highest: int

    @property
    def common(self) -> float:
        """The one scale that is left: the largest."""
        return float(self.scale.max())


@dataclass
class ChannelScaling:
    """nodes, values, stored: of the float graph; nodes and values that change are replaced, the caller's arrays are left alone.

    outputs  names of what the graph gives out, which must stay as it is
    """

    nodes: list[onnx.NodeProto]
    values: dict[str, np.ndarray]
    stored: dict[str, StoredWeight]
    outputs: Collection[str] = ()

    def move(self, found: ChannelScales) -> None:
        """UnsupportedError: around the tensor is something that cannot take its scales up, by name."""
        factor = found.common / found.scale
        readers = self._readers(found.tensor)
        for node in readers:
            weight = self.values.get(node.input[1]) if node.op_type == "Conv" and len(node.input) > 1 else None
            if weight is None or attribute(node, "group", 1) != len(factor) or len(weight) % len(factor):
                raise UnsupportedError(f"{describe(node)} {_REASON.format(count=len(factor))}, expected a depthwise convolution")
        source = self._source(found, {id(node) for node in readers})
        self._scale(source, 1, factor)
        if len(source.input) > 2 and source.input[2]:
            self._scale(source, 2, factor)
        for node in readers:
            self._scale(node, 1, np.repeat(1 / factor, len(self.values[node.input[1]]) // len(factor)))

    def _readers(self, tensor: str) -> list[onnx.NodeProto]:
        """What reads it, also behind the copies that quantizing left."""
        names, found = {tensor}, []
        for node in self.nodes:
            if any(name in names for name in node.input):
                if node.op_type == "Identity":
                    names.update(node.output)
                else:
                    found.append(node)
        self._check_inside(names)
        return found

    def _check_inside(self, names: Collection[str]) -> None:
        if given := [name for name in names if name in self.outputs]:
            raise UnsupportedError(f"output {given[0]} {_REASON.format(count='several')}; quantize it per tensor")

    def _source(self, found: ChannelScales, readers: set[int]) -> onnx.NodeProto:
        """The convolution that makes it, nothing but a relu in between; a clip that the scales imply becomes one."""
        count, name = len(found.scale), found.tensor
        while True:
            node = next((node for node in self.nodes if name in node.output), None)
            if node is None:
                raise UnsupportedError(f"input {name} has {count} scales, expected one; quantize it per tensor")
            if name != found.tensor and sum(name in other.input for other in self.nodes if id(other) not in readers) > 1:
                raise UnsupportedError(f"{describe(node)} {_REASON.format(count=count)}, and is read elsewhere; quantize it per tensor")
            self._check_inside((name,))
            if node.op_type == "Conv" and len(node.input) > 1 and node.input[1] in self.values:
                return node
            if node.op_type == "Clip" and self._implied(node, found):
                position = self.nodes.index(node)
                self.nodes[position] = helper.make_node("Relu", [node.input[0]], list(node.output), name=node.name)
            elif node.op_type not in ("Relu", "Identity"):
                raise UnsupportedError(f"{describe(node)} {_REASON.format(count=count)}, expected a convolution; quantize it per tensor")
            name = node.input[0]

    def _implied(self, node: onnx.NodeProto, found: ChannelScales) -> bool:
        """Whether a clip does no more than a relu and the quantization behind it."""
        constants = Constants(self.values, self.nodes)
        low, high = (
            constants.number(node, i) if len(node.input) > i and node.input[i] else attribute(node, word, None)
            for i, word in ((1, "min"), (2, "max"))
        )
        reached = found.scale.max() * (found.highest - 0.5)  # what rounds to the highest integer
        limited = len(node.input) > 2 and bool(node.input[2])
        return low == 0.0 and (reached <= high if high is not None else not limited)

    def _scale(self, node: onnx.NodeProto, operand: int, factor: np.ndarray) -> None:
        """Multiply output channels of a constant operand, and their scales."""
        name = node.input[operand]
        if name not in self.values or sum(list(other.input).count(name) for other in self.nodes) > 1:
            raise UnsupportedError(f"{describe(node)} {_REASON.format(count=len(factor))}, and shares {name}; quantize it per tensor")
        value = self.values[name]
        self.values[name] = (value * factor.reshape(-1, *[1] * (value.ndim - 1))).astype(np.float32)
        if (stored := self.stored.get(name)) is not None:
            self.stored[name] = replace(stored, scale=(stored.scale.astype(np.float64) * factor).astype(np.float32))


_REASON = "is beside an activation with {count} scales, one for each channel"


def move_channel_scales(
    found: list[ChannelScales], nodes: list[onnx.NodeProto], values: Mapping[str, np.ndarray], stored: Mapping[str, StoredWeight],
    outputs: Collection[str] = (),
) -> ChannelScaling:  # fmt: skip
    """The float graph with one scale for each activation.   UnsupportedError: as `ChannelScaling.move`"""
    scaling = ChannelScaling(nodes=list(nodes), values=dict(values), stored=dict(stored), outputs=outputs)
    for each in found:
        scaling.move(each)
    return scaling
