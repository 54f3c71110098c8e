"""The constants of one QuantizeLinear or DequantizeLinear, read as numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from tvm_rsq.errors import ModelError, UnsupportedError
from tvm_rsq.frontend.onnx_graph import attribute, describe

INTEGERS: Mapping[str, tuple[int, int]] = {
    "uint8": (0, 255), "int8": (-128, 127), "uint4": (0, 15), "int4": (-8, 7), "int32": (-(2**31), 2**31 - 1),
}  # fmt: skip
"""dtype -> its smallest and largest value; others are refused"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Affine:
    """real = scale * (q - zero_point)

    scale, zero_point  float64 and int64, each () or (n,), of one shape
    dtype              of q
    axis               that the scales count, where there are several
    """

    scale: np.ndarray
    zero_point: np.ndarray
    dtype: str
    axis: int

    def same_as(self, other: Affine) -> bool:
        """Whether both map integers to the same reals."""
        same_kind = self.dtype == other.dtype and self.scale.shape == other.scale.shape
        same_axis = self.scale.ndim == 0 or self.axis == other.axis
        return same_kind and same_axis and np.array_equal(self.scale, other.scale) and np.array_equal(self.zero_point, other.zero_point)


class Constants:
    """What is known of a graph's values before anything runs: initializers, and Constant and Identity nodes over them."""

    def __init__(self, weights: Mapping[str, np.ndarray], nodes: list[onnx.NodeProto]) -> None:
        self._weights = weights
        self._made = {output: node for node in nodes for output in node.output}

    def get(self, name: str) -> np.ndarray | None:
        """The value, None of what is computed at run time."""
        for _ in range(len(self._made) + 1):  # a damaged graph may go round in circles
            if name in self._weights:
                return self._weights[name]
            node = self._made.get(name)
            if node is None or node.op_type not in ("Constant", "Identity"):
                return None
            if node.op_type == "Identity":
                name = node.input[0] if node.input else ""
                continue
            value = attribute(node, "value", None)
            return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else _plain(node)
        return None

    def number(self, node: onnx.NodeProto, place: int) -> float | None:
        """An operand that is one finite number; None where it is left out, or anything else."""
        value = self.get(node.input[place]) if len(node.input) > place and node.input[place] else None
        if value is None or value.size != 1 or value.dtype.kind not in "fiu":
            return None
        found = float(value.reshape(()))
        return found if np.isfinite(found) else None


def read_affine(node: onnx.NodeProto, constants: Constants, stored: np.ndarray | None = None) -> Affine:
    """The scales of a QuantizeLinear or DequantizeLinear.   stored: what a DequantizeLinear reads, where that is constant

    ModelError: operands are missing or contradict each other. UnsupportedError: scales computed at run time, blocks, other dtypes.
    """
    if len(node.input) < 2 or not node.output:
        raise ModelError(f"{describe(node)} has {len(node.input)} operands, expected a value, a scale and a zero point")
    if attribute(node, "block_size", 0):
        raise UnsupportedError(f"{describe(node)} has a scale for each block of values, expected one for each tensor or channel")
    scale = constants.get(node.input[1])
    zero_point = constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if scale is None or (zero_point is None and len(node.input) > 2 and node.input[2]):
        raise UnsupportedError(f"{describe(node)} computes its scale at run time, expected a static one; quantize the network statically")
    dtype = str(zero_point.dtype) if zero_point is not None else str(stored.dtype) if stored is not None else _named(node)
    if dtype not in INTEGERS:
        raise UnsupportedError(f"{describe(node)} stores {dtype}, expected {', '.join(INTEGERS)}; quantize the network to 8 bits")
    if scale.dtype.kind != "f" or scale.size == 0 or scale.ndim > 1:
        raise ModelError(f"{describe(node)} has a scale of {scale.dtype} and shape {list(scale.shape)}, expected float, () or (n,)")
    real = scale.astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        held = real.astype(np.float32)
    if not np.isfinite(held).all() or not (held > 0).all():
        raise ModelError(f"{describe(node)} has a scale of shape {list(real.shape)} that is not finite and positive throughout, in float32")
    zero = np.zeros(real.shape, np.int64) if zero_point is None else np.asarray(zero_point).astype(np.int64)
    if zero.size != real.size:
        raise ModelError(f"{describe(node)} has {real.size} scales and {zero.size} zero points, expected as many of both")
    shape = () if real.size == 1 else (real.size,)
    axis = attribute(node, "axis", 1)
    return Affine(scale=real.reshape(shape), zero_point=zero.reshape(shape), dtype=dtype, axis=int(axis))


def _named(node: onnx.NodeProto) -> str:
    """Of the dtype that a QuantizeLinear without a zero point makes."""
    wanted = attribute(node, "output_dtype", 0)
    if not wanted:
        return "uint8"
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(int(wanted)))
    except KeyError:
        return f"dtype {wanted}"


def _plain(node: onnx.NodeProto) -> np.ndarray | None:
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64), ("value_ints", np.int64)):
        value = attribute(node, name, None)
        if value is not None:
            return np.array(value, dtype)
    return None
