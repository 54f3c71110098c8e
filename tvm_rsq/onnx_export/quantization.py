"""QuantizeLinear and DequantizeLinear, and weights as they are stored: int8, INT4, or codes into a codebook."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from tvm_rsq.onnx_export.graph import GraphBuilder
from tvm_rsq.onnx_export.value import Value

_INT4_OPSET = 21


def quantize(graph: GraphBuilder, value: Value, scale: np.ndarray, zero_point: np.ndarray, wish: str) -> Value:
    """uint8 = saturate(round half to even(x / scale) + zero_point)"""
    constants = _affine(graph, wish, scale, zero_point.astype(np.uint8))
    return Value(graph.node("QuantizeLinear", [value.name, *constants], wish), value.shape, value.first)


def dequantize(graph: GraphBuilder, value: Value, scale: np.ndarray, zero_point: np.ndarray, wish: str) -> Value:
    constants = _affine(graph, wish, scale, zero_point.astype(np.uint8))
    return Value(graph.node("DequantizeLinear", [value.name, *constants], wish), value.shape, value.first)


def weight(
    graph: GraphBuilder, array: np.ndarray, scale: np.ndarray, axis: int, wish: str, books: Sequence[Sequence[int]] = ()
) -> str:
    """A dequantized weight or bias, whose zero points are 0; `array` as the graph has it.

    books  the codebooks of the weight: one becomes a Gather out of it, where there are several its integers stay as they are
    """
    if len(books) == 1 and np.any(np.diff(books[0]) > 1):  # else a uniform grid of few bits
        book = np.array(books[0], np.int8)
        codes = graph.constant(f"{wish}_codes", np.searchsorted(book, array).astype(np.uint8))  # a byte each; Gather takes no bytes
        index = graph.node("Cast", [codes], f"{wish}_index", to=TensorProto.INT32)
        stored = graph.node("Gather", [graph.constant(f"{wish}_book", book), index], f"{wish}_levels")
    elif array.dtype == np.int8 and graph.opset >= _INT4_OPSET and array.size and -8 <= array.min() and array.max() <= 7:
        stored = graph.four_bits(f"{wish}_int4", array)
    else:
        stored = graph.constant(f"{wish}_{array.dtype}", array)
    per_axis = {"axis": axis} if scale.size > 1 else {}
    constant = graph.constant(f"{wish}_scale", scale.reshape(-1).astype(np.float32) if per_axis else np.float32(scale.reshape(())))
    return graph.node("DequantizeLinear", [stored, constant], wish, **per_axis)


def _affine(graph: GraphBuilder, wish: str, scale: np.ndarray, zero_point: np.ndarray) -> tuple[str, str]:
    return (
        graph.constant(f"{wish}_scale", np.float32(scale.reshape(()))),
        graph.constant(f"{wish}_zero_point", zero_point.reshape(())),
    )
