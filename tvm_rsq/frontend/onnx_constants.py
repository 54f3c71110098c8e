"""Numbers in an ONNX graph that say how large something is to be, checked before onnx's C++ works with them, which trusts them: it asks for
the memory, or ends the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from tvm_rsq.errors import ModelError
from tvm_rsq.frontend.value_sizes import check_value

_LARGEST = 2**31 - 1
_MOST_ENLARGED = 2.0**20
_SHAPES = {"ConstantOfShape": 0, "Expand": 1, "Reshape": 1}  # operator -> which operand is a shape
_EXTENTS = {"Pad": (1,), "Resize": (3,), "Split": (1,)}  # ... are extents
_FACTORS = {"Resize": 2, "Upsample": 1}


def check_constants(nodes: Sequence[onnx.NodeProto], weights: Mapping[str, np.ndarray]) -> None:
    """ModelError: an operand that is constant and absurd. UnsupportedError: a tensor beyond check_value."""
    for node in nodes:
        given = [weights.get(name) for name in node.input]

        def operand(number: int, given: list[np.ndarray | None] = given) -> np.ndarray | None:
            return given[number] if number < len(given) else None

        if (shape := operand(_SHAPES.get(node.op_type, 99))) is not None:
            _check_extents(node, shape)
            if node.op_type != "Reshape":
                check_value(_name(node), [int(extent) for extent in shape.flat], constant=True)
        for number in _EXTENTS.get(node.op_type, ()):
            if (extents := operand(number)) is not None:
                _check_extents(node, extents)
        if (factors := operand(_FACTORS.get(node.op_type, 99))) is not None and factors.size:
            if not (np.asarray(factors) > 0).all() or factors.max() > _MOST_ENLARGED:
                raise ModelError(f"{node.op_type} (tensor {_name(node)}) has the scales {factors.tolist()}, expected finite ones above 0")
        if node.op_type == "Range":
            _check_range(node, given)


def _check_extents(node: onnx.NodeProto, values: np.ndarray) -> None:
    if values.size and not (np.abs(values.astype(np.float64)) <= _LARGEST).all():
        raise ModelError(f"{node.op_type} (tensor {_name(node)}) has the extents {values.tolist()[:8]}, expected up to {_LARGEST}")


def _check_range(node: onnx.NodeProto, given: Sequence[np.ndarray | None]) -> None:
    if len(given) != 3 or any(value is None or value.size != 1 for value in given):
        return
    start, limit, step = (float(value.reshape(())) for value in given)  # type: ignore[union-attr]
    if not step or not np.isfinite([start, limit, step]).all():
        raise ModelError(f"Range (tensor {_name(node)}) goes from {start:g} to {limit:g} by {step:g}, expected finite numbers, not by 0")
    check_value(_name(node), [max(0, int((limit - start) / step) + 1)], constant=True)


def _name(node: onnx.NodeProto) -> str:
    return node.output[0] if node.output else node.name
