"""A QDQ graph -> the float graph that it stands for, and what it says of quantization.

    x -> QuantizeLinear -> DequantizeLinear -> y            x -> y, or relu(x) -> y (see non_negative), the scale of x noted
    integers -> DequantizeLinear -> y                       y is a weight, scale * (integers - zero_point)
    weight -> QuantizeLinear -> DequantizeLinear -> y       likewise, rounded as ONNX says
    Gather(book, codes) -> DequantizeLinear -> y            likewise, the book noted

Integers may be moved between the two nodes, and clipped to a grid of fewer bits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import helper

from tvm_rsq.errors import UnsupportedError
from tvm_rsq.frontend.onnx_graph import Graph, describe, renamed
from tvm_rsq.qdq_import.affine import INTEGERS, Affine, Constants, read_affine
from tvm_rsq.qdq_import.channel_scales import ChannelScales, move_channel_scales
from tvm_rsq.qdq_import.non_negative import NonNegative
from tvm_rsq.qdq_import.source_quantization import StoredWeight
from tvm_rsq.qdq_import.stored_integers import StoredIntegers
from tvm_rsq.qdq_import.two_grids import counting, said
from tvm_rsq.tensor_quant import TensorQuant

_QDQ = ("QuantizeLinear", "DequantizeLinear")
_DOMAINS = ("", "ai.onnx", "com.microsoft")  # ONNX Runtime has both nodes for types that older opsets lack
_KEEP = frozenset(("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"))  # all values, and no others
_MOVES = frozenset(("Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"))
_READ_BACK = re.compile(r"(.+?)_(?:DequantizeLinear(?:_Output)?|dequantized)|dq_output_(.+)_\d+")  # what quantizers call such a weight


@dataclass(frozen=True, kw_only=True)
class Stripped:
    """graph: without QuantizeLinear and DequantizeLinear; weights, tensors: by the names of its values, tensors in execution order.

    twice  of the tensors, those that the file quantizes another way as well; the first one counts
    """

    graph: Graph
    weights: Mapping[str, StoredWeight]
    tensors: Mapping[str, TensorQuant]
    twice: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quantized:
    """Integers of an activation.

    name     of the float value that they stand for, before any move
    counted  whether their quantization is the value's, which another one may have been before
    alone    whether nothing else reads integers of this QuantizeLinear, moved or not
    """

    affine: Affine
    bits: int
    name: str
    counted: bool
    alone: bool = True


def is_qdq(graph: Graph) -> bool:
    """Whether it brings a quantization of its own."""
    return any(_is(node, *_QDQ) for node in graph.nodes)


def strip_qdq(graph: Graph) -> Stripped:
    """graph is left untouched.

    UnsupportedError: what has no equal in integer kernels, with the node: activations of other dtypes than 4 and 8 bits, or with scales of
    channels that layers cannot take up (see channel_scales), integers that anything but a DequantizeLinear computes with, or that come back
    by another scale. ModelError: constants that are no scales.
    """
    return _Strip(graph).run()


def _is(node: onnx.NodeProto, *kinds: str) -> bool:
    return node.op_type in kinds and node.domain in _DOMAINS


@dataclass
class _Strip:
    graph: Graph
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    alias: dict[str, str] = field(default_factory=dict)
    weights: dict[str, StoredWeight] = field(default_factory=dict)
    tensors: dict[str, TensorQuant] = field(default_factory=dict)
    quantized: dict[str, _Quantized] = field(default_factory=dict)
    read_back: dict[str, _Quantized] = field(default_factory=dict)
    channels: list[ChannelScales] = field(default_factory=list)
    twice: dict[str, None] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)

    def run(self) -> Stripped:
        graph = self.graph
        self.values = dict(graph.weights)
        self.constants = Constants(graph.weights, graph.nodes)
        self.integers = StoredIntegers(self.constants)
        self.positive = NonNegative(self.constants)
        self.taken = {*graph.weights, *(value.name for value in graph.inputs), *(name for node in graph.nodes for name in node.output)}
        self.inputs = {value.name for value in graph.inputs}
        self.uses = Counter(name for node in graph.nodes for name in node.input)
        for node in graph.nodes:
            self._visit(node)
            self.positive.visit(node)
        for output in graph.outputs:
            if output.name in self.quantized:
                raise UnsupportedError(f"output {output.name} holds integers, expected a DequantizeLinear in front of it")
        outputs = {output.name for output in graph.outputs}
        moved = move_channel_scales(self.channels, [renamed(node, self.alias) for node in self.nodes], self.values, self.weights, outputs)
        nodes, self.values, self.weights = moved.nodes, moved.values, moved.stored
        read = {name for node in nodes for name in node.input} | outputs
        values = {name: value for name, value in self.values.items() if name in read}
        kept = replace(graph, nodes=nodes, weights=values)
        return Stripped(graph=kept, weights=self.weights, tensors=self.tensors, twice=tuple(self.twice))

    def _visit(self, node: onnx.NodeProto) -> None:
        if self.integers.visit(node):
            return
        read = [self.quantized[name] for name in node.input if name in self.quantized]
        if _is(node, "QuantizeLinear"):
            self._quantize(node)
        elif _is(node, "DequantizeLinear"):
            self._dequantize(node)
        elif not read:
            self.nodes.append(node)
            if node.op_type in _KEEP and node.input[0] in self.read_back:
                alone = self.uses[node.input[0]] == 1
                self.read_back[node.output[0]] = replace(self.read_back[node.input[0]], alone=alone)
        elif node.op_type == "Clip":
            self._clip(node, read[0])
        elif node.op_type in _MOVES and node.input[0] in self.quantized:
            self.nodes.append(node)
            alone = read[0].alone and len(node.output) == 1 and self.uses[node.input[0]] == 1
            self.quantized.update(dict.fromkeys(node.output, replace(read[0], alone=alone)))
        else:
            raise UnsupportedError(f"{describe(node)} computes with integers, expected a DequantizeLinear in front of it (format QDQ)")

    def _quantize(self, node: onnx.NodeProto) -> None:
        affine = read_affine(node, self.constants)
        if affine.dtype == "int32":
            raise UnsupportedError(f"{describe(node)} quantizes an activation to int32, expected 8 or 4 bits")
        if affine.scale.ndim and (affine.axis != 1 or np.unique(affine.zero_point).size > 1):
            what = f"{affine.scale.size} scales along axis {affine.axis} and {np.unique(affine.zero_point).size} zero points"
            raise UnsupportedError(f"{describe(node)} quantizes an activation with {what}, expected one scale; quantize it per tensor")
        lowest, highest = INTEGERS[affine.dtype]
        bits = 4 if highest - lowest == 15 else 8
        name, zero = node.input[0], int(affine.zero_point.reshape(-1)[0])
        starts_at_zero = zero == lowest
        if starts_at_zero and name not in self.inputs and not self.positive.holds(name):
            name = self._free(f"{name}_relu")
            self.nodes.append(helper.make_node("Relu", [node.input[0]], [name], name=name))
        if starts_at_zero:
            self.positive.names.add(node.output[0])
        first = name not in self.tensors
        if affine.scale.ndim and first:
            self.channels.append(ChannelScales(tensor=name, scale=affine.scale, highest=highest - zero))
        quant = TensorQuant(scale=float(np.float32(affine.scale.max())), zero_point=zero - lowest, bits=bits)
        if (source := self.read_back.get(node.input[0])) is not None:
            self._quantize_again(node, source, quant)
        known = self.tensors.setdefault(name, quant)
        if known != quant:
            self.twice[name] = None
        self.quantized[node.output[0]] = _Quantized(affine=affine, bits=bits, name=name, counted=first)
        self.nodes.append(helper.make_node("Identity", [name], [node.output[0]], name=node.name))

    def _quantize_again(self, node: onnx.NodeProto, source: _Quantized, after: TensorQuant) -> None:
        """A value that was rounded already."""
        before = self.tensors[source.name]
        found = counting(before, after)
        if found is None or (found != before and not (source.alone and self.uses[node.input[0]] == 1)):
            raise UnsupportedError(
                f"{describe(node)} quantizes to {said(after)} what was quantized to {said(before)}, expected one scale; leave one out"
            )
        if found != before:
            self.tensors[source.name] = found
            self.twice[source.name] = None

    def _clip(self, node: onnx.NodeProto, read: _Quantized) -> None:
        """Integers of fewer bits."""
        lowest = INTEGERS[read.affine.dtype][0]
        low, high = (None if limit is None else limit - lowest for limit in (self.constants.number(node, place) for place in (1, 2)))
        bits = {2**each - 1: each for each in (4, 6, 8)}.get(-1 if high is None else int(high))
        was = self.tensors[read.name]
        if low != 0 or bits is None or was.zero_point >= 2**bits:
            raise UnsupportedError(f"{describe(node)} clips integers to {low} to {high} above their least, expected 0 to 15, 63 or 255")
        if not read.alone or self.uses[node.input[0]] > 1:
            raise UnsupportedError(f"{describe(node)} clips integers that are read without it, too; quantize them twice, or clip for all")
        if read.counted:
            self.tensors[read.name] = replace(was, bits=bits)
        elif was.bits != bits:
            self.twice[read.name] = None
        self.quantized[node.output[0]] = replace(read, bits=bits)
        self.nodes.append(helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name))

    def _dequantize(self, node: onnx.NodeProto) -> None:
        stored = self.integers.get(node.input[0]) if node.input else None
        affine = read_affine(node, self.constants, None if stored is None else stored.values)
        if stored is not None:
            self._weight(node, affine)
            return
        source = self.quantized.get(node.input[0])
        if source is None:
            raise UnsupportedError(f"{describe(node)} reads {node.input[0]}, expected constants or what a QuantizeLinear makes")
        if len(node.input) < 3 or not node.input[2]:
            affine = replace(affine, dtype=source.affine.dtype)  # of a zero point of 0 that is left out
        if not affine.same_as(source.affine):
            raise UnsupportedError(f"{describe(node)} has another scale, zero point or dtype than the QuantizeLinear in front of it")
        alone = source.alone and self.uses[node.input[0]] == 1
        self.read_back[node.output[0]] = replace(source, alone=alone)
        self.nodes.append(helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name))

    def _weight(self, node: onnx.NodeProto, affine: Affine) -> None:
        stored = self.integers.get(node.input[0])
        assert stored is not None, "a weight is constant"
        real = stored.real(node, affine)
        name = self._named(node.output[0], stored.source)
        self.values[name] = real
        if affine.dtype != "int32":
            self.weights[name] = stored.weight(affine)

    def _named(self, output: str, source: str | None) -> str:
        """The weight's own name, where that can be told: of what was quantized in the graph, or without the words that quantizers add."""
        known = _READ_BACK.fullmatch(output)
        for name in (source, known and (known[1] or known[2])):
            own = name == source and name in self.graph.weights and self.uses[name] == 1 and name not in self.named
            if name and name != output and (own or name not in self.taken):
                self.taken.add(name)
                self.named.add(name)
                self.alias[output] = name
                return name
        return output

    def _free(self, wish: str) -> str:
        name, count = wish, 1
        while name in self.taken:
            name, count = f"{wish}_{count}", count + 1
        self.taken.add(name)
        return name
