"""Integers that a QDQ graph holds as constants: initializers, entries of a codebook, and weights that the graph itself quantizes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx

from tvm_rsq.errors import ModelError
from tvm_rsq.frontend.onnx_graph import attribute, describe
from tvm_rsq.qdq_import.affine import INTEGERS, Affine, Constants, read_affine
from tvm_rsq.qdq_import.source_quantization import StoredWeight

_CODES = ("uint8", "int8", "uint4", "int4")
_MIDDLE = {"uint8": 128, "uint4": 8}  # zero point of a symmetric weight that is stored unsigned


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stored:
    """Constant integers.   source: the float weight that they were made of in the graph; book: what they may be, where a Gather says"""

    values: np.ndarray
    source: str | None = None
    book: tuple[int, ...] = ()

    def real(self, node: onnx.NodeProto, affine: Affine) -> np.ndarray:
        """float32, as the DequantizeLinear `node` makes it.   ModelError: as many scales as no axis has"""
        scale, zero_point = _spread(node, affine, self.values.shape)
        return (scale.astype(np.float32) * (self.values.astype(np.int64) - zero_point).astype(np.float32)).astype(np.float32)

    def weight(self, affine: Affine) -> StoredWeight:
        """In our terms."""
        middle = _MIDDLE.get(affine.dtype, 0)
        odd = affine.zero_point[affine.zero_point != middle].reshape(-1)
        return StoredWeight(
            integers=self.values.astype(np.int16) - middle, scale=affine.scale.reshape(-1).astype(np.float32),
            book=tuple(entry - middle for entry in self.book),
            zero_point=int(odd[0]) - middle if odd.size else 0,
        )  # fmt: skip


@dataclass
class StoredIntegers:
    """Those of one graph, found in execution order."""

    constants: Constants
    _found: dict[str, Stored] = field(default_factory=dict)

    def get(self, name: str) -> Stored | None:
        """None of what is no constant, or no integer of a dtype that networks are quantized to."""
        if name in self._found:
            return self._found[name]
        value = self.constants.get(name)
        return Stored(values=value) if value is not None and str(value.dtype) in INTEGERS else None

    def visit(self, node: onnx.NodeProto) -> bool:
        """Whether the node only makes such constants; they are noted then."""
        if node.op_type == "QuantizeLinear" and node.input and (value := self.constants.get(node.input[0])) is not None:
            self._found[node.output[0]] = Stored(values=_quantized(node, value, read_affine(node, self.constants)), source=node.input[0])
        elif node.op_type == "Cast" and len(node.input) == 1 and (codes := self.get(node.input[0])) and str(codes.values.dtype) in _CODES:
            self._found[node.output[0]] = codes  # whatever integers they become, they index the same entries
        elif node.op_type == "Gather" and len(node.input) == 2 and node.output and attribute(node, "axis", 0) == 0:
            book, codes = self.constants.get(node.input[0]), self.get(node.input[1])
            if book is None or codes is None or book.ndim != 1 or str(book.dtype) not in ("int8", "uint8"):
                return False
            indices = codes.values.astype(np.int64)
            if indices.size == 0 or indices.min() < 0 or indices.max() >= book.size:
                raise ModelError(f"{describe(node)} reads entries {indices.min(initial=0)} to {indices.max(initial=0)} of {book.size}")
            self._found[node.output[0]] = Stored(values=book[indices], book=tuple(int(entry) for entry in book))
        else:
            return False
        return True


def _quantized(node: onnx.NodeProto, value: np.ndarray, affine: Affine) -> np.ndarray:
    """saturate(round half to even(x / scale) + zero_point), in the dtype's numpy carrier"""
    scale, zero_point = _spread(node, affine, value.shape)
    low, high = INTEGERS[affine.dtype]
    carrier = np.uint8 if affine.dtype.startswith("u") else np.int8 if high < 2**15 else np.int32
    ratio = value.astype(np.float32) / scale.astype(np.float32)
    return np.clip(np.rint(ratio).astype(np.float64) + zero_point, low, high).astype(carrier)


def _spread(node: onnx.NodeProto, affine: Affine, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point, to be broadcast against an array of `shape`."""
    if affine.scale.ndim == 0:
        return affine.scale, affine.zero_point
    axis = affine.axis + len(shape) if affine.axis < 0 else affine.axis
    if not 0 <= axis < len(shape) or shape[axis] != affine.scale.size:
        raise ModelError(f"{describe(node)} has {affine.scale.size} scales along axis {affine.axis} of a tensor of shape {list(shape)}")
    form = tuple(-1 if i == axis else 1 for i in range(len(shape)))
    return affine.scale.reshape(form), affine.zero_point.reshape(form)
