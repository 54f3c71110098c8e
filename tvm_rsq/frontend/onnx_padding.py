"""Replace ONNX's auto_pad by explicit pads, which the known input shapes allow.

SAME    output = ceil(input / stride);  total = max((output - 1) * stride + (kernel - 1) * dilation + 1 - input, 0);
        UPPER puts the odd element behind, LOWER in front
VALID   no pads
"""

from __future__ import annotations

import onnx
from onnx import helper

from tvm_rsq.errors import UnsupportedError
from tvm_rsq.frontend.onnx_graph import Graph, attribute, describe


def explicit_pads(graph: Graph) -> None:
    """Rewrite the graph's Conv and pooling nodes. UnsupportedError: an input shape that is not known."""
    graph.nodes = [_explicit(graph, node) if attribute(node, "auto_pad", "NOTSET") != "NOTSET" else node for node in graph.nodes]


def _explicit(graph: Graph, node: onnx.NodeProto) -> onnx.NodeProto:
    mode = attribute(node, "auto_pad", "NOTSET")
    if node.input[0] not in graph.shapes:
        raise UnsupportedError(f"{describe(node)} has auto_pad {mode} on an input of unknown shape; export it with explicit pads")
    extents = graph.shapes[node.input[0]][2:]
    kernel = attribute(node, "kernel_shape", None) or graph.shapes[node.input[1]][2:]
    strides = attribute(node, "strides", None) or [1] * len(extents)
    dilations = attribute(node, "dilations", None) or [1] * len(extents)
    before, after = [], []
    for extent, size, stride, dilation in zip(extents, kernel, strides, dilations, strict=True):
        reach = (size - 1) * dilation + 1
        total = 0 if mode == "VALID" else max((-(-extent // stride) - 1) * stride + reach - extent, 0)
        small = total // 2
        before.append(total - small if mode == "SAME_LOWER" else small)
        after.append(total - before[-1])
    new = onnx.NodeProto()
    new.CopyFrom(node)
    del new.attribute[:]
    new.attribute.extend(entry for entry in node.attribute if entry.name not in ("auto_pad", "pads"))
    new.attribute.append(helper.make_attribute("pads", before + after))
    return new
