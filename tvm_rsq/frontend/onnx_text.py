"""Whether the names in an ONNX file are text: protobuf hands over bytes where they are not UTF-8, and everything behind it takes str."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from tvm_rsq.errors import ModelError


def check_text(model: onnx.ModelProto) -> None:
    """ModelError: a name that is not UTF-8."""
    for name in _names(model.graph):
        if not isinstance(name, str):
            raise ModelError(f"the ONNX model has the name {name!r}, which is not UTF-8; it is damaged, export it again")


def _names(graph: onnx.GraphProto) -> Iterator[object]:
    yield graph.name
    for entries in (graph.initializer, graph.input, graph.output):
        yield from (entry.name for entry in entries)
    for value in graph.input:
        if value.type.HasField("tensor_type"):
            yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (entry.name for entry in node.attribute)
