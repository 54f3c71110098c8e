"""What stays in float between the first quantize and the last dequantize, and why."""

from __future__ import annotations

from tvm_rsq.passes import operator_roles as roles
from tvm_rsq.passes.dataflow import OUTPUT, Dataflow, Node
from tvm_rsq.passes.find_islands import Islands
from tvm_rsq.plan import FloatIsland


def float_islands(view: Dataflow, islands: Islands) -> tuple[FloatIsland, ...]:
    """In execution order, each with why it has no integer kernel."""
    return tuple(FloatIsland(name=name, op=view.nodes[name].op, reason=_why(view, islands, view.nodes[name])) for name in islands.float_ops)


def _why(view: Dataflow, islands: Islands, node: Node) -> str:
    has_kernel = node.op in roles.ELEMENTWISE | roles.CONCATS or roles.keeps_scale(node) or roles.is_spatial_mean(view, node)
    if not has_kernel:
        return f"{node.op} has no integer kernel"
    in_float = {OUTPUT, *islands.float_ops} | {op for island in islands.islands if island.kind == "float_layer" for op in island.ops}
    return "its result is only wanted in float" if in_float.issuperset(view.users[node.name]) else "its inputs are in float"
