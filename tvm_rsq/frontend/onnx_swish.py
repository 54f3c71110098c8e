"""Write ONNX's Swish (opset 24) in operators that every importer knows.   Swish(x) = x * Sigmoid(alpha * x)"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tvm_rsq.frontend.onnx_graph import Graph, attribute


def expand_swish(graph: Graph) -> None:
    """Rewrite the graph's Swish nodes."""
    graph.nodes = [new for node in graph.nodes for new in (_expanded(graph, node) if node.op_type == "Swish" else [node])]


def _expanded(graph: Graph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    (x,), (y,) = node.input, node.output
    alpha = float(attribute(node, "alpha", 1.0))
    made, scaled = [], x
    if alpha != 1.0:
        graph.weights[f"{y}.alpha"], scaled = np.array(alpha, np.float32), f"{y}.scaled"
        made.append(helper.make_node("Mul", [x, f"{y}.alpha"], [scaled], name=node.name))
    gate = f"{y}.gate"
    return [*made, helper.make_node("Sigmoid", [scaled], [gate], name=node.name), helper.make_node("Mul", [x, gate], [y], name=node.name)]
