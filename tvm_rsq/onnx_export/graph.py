"""GraphBuilder: an ONNX graph as it grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass
class GraphBuilder:
    """opset  of the default domain"""

    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    _made_by: dict[str, onnx.NodeProto] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)

    def name(self, wish: str) -> str:
        """`wish`, or with a number behind it where it is taken."""
        number = self._names.get(wish, 0)
        self._names[wish] = number + 1
        return wish if number == 0 else self.name(f"{wish}_{number}")

    def constant(self, wish: str, array: np.ndarray) -> str:
        name = self.name(wish)
        self.initializers[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def four_bits(self, wish: str, values: np.ndarray) -> str:
        """INT4, of opset 21, two values a byte.   values: -8 ... 7"""
        name = self.name(wish)
        self.initializers[name] = helper.make_tensor(name, TensorProto.INT4, values.shape, values.reshape(-1).astype(np.int64).tolist())
        return name

    def ints(self, wish: str, values: Sequence[int]) -> str:
        return self.constant(wish, np.array(values, np.int64))

    def node(self, op: str, inputs: Sequence[str], wish: str, **attributes: Any) -> str:
        """A node of one output, whose name is returned."""
        return self.nodes_of(op, inputs, [wish], **attributes)[0]

    def nodes_of(self, op: str, inputs: Sequence[str], wishes: Sequence[str], **attributes: Any) -> list[str]:
        """A node of several outputs, and their names."""
        names = [self.name(wish) for wish in wishes]
        made = helper.make_node(op, list(inputs), names, name=names[0], **attributes)
        self.nodes.append(made)
        self._made_by.update(dict.fromkeys(names, made))
        return names

    def made_by(self, name: str) -> onnx.NodeProto | None:
        """The node of which `name` is an output; None of inputs and constants."""
        return self._made_by.get(name)
