"""Find the integer islands: the groups of operators that become one kernel each.

    conv2d(x, w) -> add(., b) -> add(., residual) -> relu(.)        one "conv2d" island, stored as the relu's tensor
    y = multiply(x, sigmoid(x))                                     one "lookup" island: y = f(x), x stored, y stored
    mean, avg_pool2d | add, subtract, multiply of two tensors | concat | reshape, max_pool2d, ...

Only an island's output is ever stored. An operator whose results are wanted in float only (by softmax, or as the network's
output) is itself left in float if it is cheap, and a kernel in front of it stores its accumulators dequantized instead of requantized.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from tvm_rsq.passes import operator_roles as roles
from tvm_rsq.passes.dataflow import OUTPUT, Dataflow, Node


@dataclass(frozen=True, kw_only=True)
class Island:
    """kind "conv2d", "dense", "sum", "product", "lookup", "clamp", "move", "mean", "concat" or "float_layer".

    ops     names of its operations in execution order; the last one is `output`
    inputs  the activations it reads from outside
    layer   the weight's name, for conv2d, dense and float_layer
    """

    kind: str
    ops: tuple[str, ...]
    inputs: tuple[str, ...]
    layer: str | None = None

    @property
    def output(self) -> str:
        return self.ops[-1]

    @property
    def keeps_scale(self) -> bool:
        return self.kind in ("clamp", "move")


@dataclass(frozen=True, kw_only=True)
class Islands:
    """islands in the order of their outputs; quantized: activations that integer kernels read; float_ops: operators left in float."""

    islands: tuple[Island, ...]
    quantized: tuple[str, ...]
    float_ops: tuple[str, ...]


@dataclass
class _Search:
    view: Dataflow
    float_layers: Collection[str]
    claimed: dict[str, Island] = field(default_factory=dict)
    root: dict[str, str] = field(default_factory=dict)
    kind: dict[str, str] = field(default_factory=dict)
    in_float: set[str] = field(default_factory=set)

    def run(self) -> Islands:
        view = self.view
        order = {name: index for index, name in enumerate(view.nodes)}
        layers = [node for node in view.nodes.values() if roles.is_layer(view, node)]
        for node in layers:
            self._claim_layer(node, order)
        for node in view.nodes.values():
            if node.name not in self.claimed:
                self._classify(node)
        if all(view.operand(node.name, 1) in self.float_layers for node in layers):
            self.in_float.update(name for name in view.nodes if name not in self.claimed)
        else:
            self._place_in_float()
        found = {island.output: island for island in self.claimed.values()}
        for name in view.nodes:
            if name not in self.claimed and name not in self.in_float and (island := self._island_at(name)):
                found[name] = island
        islands = tuple(found[name] for name in view.nodes if name in found)
        integer = [island for island in islands if island.kind != "float_layer"]
        wanted = {name for island in integer for name in island.inputs}
        everything = [var.name for var in view.inputs] + list(view.nodes)
        return Islands(
            islands=islands,
            quantized=tuple(name for name in everything if name in wanted),
            float_ops=tuple(name for name in view.nodes if name in self.in_float),
        )

    def _claim_layer(self, node: Node, order: dict[str, int]) -> None:
        view, ops = self.view, [node.name]
        user = view.sole_user(ops[-1])
        if user and roles.is_bias_add(view, view.nodes[user]):
            ops.append(user)
            user = view.sole_user(user)
        if user and user not in self.claimed and self._takes_residual(ops[-1], user, order):
            ops.append(user)
            user = view.sole_user(user)
        if user and view.nodes[user].op in roles.CLAMPS and user not in self.claimed:
            ops.append(user)
        layer = view.operand(node.name, 1)
        kind = "float_layer" if layer in self.float_layers else "dense" if node.op == "matmul" else "conv2d"
        island = Island(kind=kind, ops=tuple(ops), inputs=self._inputs(ops), layer=layer)
        self.claimed.update(dict.fromkeys(ops, island))

    def _takes_residual(self, tail: str, user: str, order: dict[str, int]) -> bool:
        """The add behind a layer can be fused: two tensors of one shape, the other one not a layer that will fuse it itself."""
        view, node = self.view, self.view.nodes[user]
        if node.op != "add" or len(node.operands) != 2 or len(set(node.operands)) != 2:
            return False
        other = node.operands[1] if node.operands[0] == tail else node.operands[0]
        if view.is_param(other) or view.shape(other) != view.shape(tail):
            return False
        return order.get(other, -1) < order[tail] or not self._ends_layer(other)

    def _ends_layer(self, name: str) -> bool:
        node = self.view.nodes.get(name)
        if node is None or self.view.sole_user(name) is None:
            return False
        if roles.is_bias_add(self.view, node):
            node = self.view.nodes.get(node.operands[0], node)
        return roles.is_layer(self.view, node)

    def _classify(self, node: Node) -> None:
        """kind of an operation outside layers, and for chains of element-wise ones the tensor they are a function of."""
        view, operands = self.view, node.operands
        if any(view.is_param(name) for name in operands) or not operands or not roles.scalar_only(node):
            self.kind[node.name] = "float"
            return
        roots = tuple(dict.fromkeys(self.root.get(name, name) for name in operands))
        if node.op in roles.CLAMPS and self.kind.get(operands[0]) in ("sum", "product") and view.sole_user(operands[0]):
            self.kind[node.name], self.kind[operands[0]] = self.kind[operands[0]], "inner"
        elif node.op in roles.CLAMPS and roots == operands and roles.leaves_zero(node):
            self.kind[node.name] = "clamp"
        elif node.op in roles.ELEMENTWISE and len(roots) == 1:
            self.kind[node.name], self.root[node.name] = "lookup", roots[0]
        elif node.op in roles.SUMS | roles.PRODUCTS and len(operands) == 2:
            self.kind[node.name] = "sum" if node.op in roles.SUMS else "product"
        elif roles.keeps_scale(node):
            self.kind[node.name] = "move"
        elif roles.is_spatial_mean(view, node):
            self.kind[node.name] = "mean"
        else:
            self.kind[node.name] = "concat" if node.op in roles.CONCATS else "float"

    def _place_in_float(self) -> None:
        """Forward: what is computed from tensors born in float stays there.

        Backward: what only float operators read is cheap enough to stay there too.
        """
        view = self.view
        cheap = ("lookup", "clamp", "move", "concat")
        for name, kind in self.kind.items():
            born = all(self._born_in_float(operand) for operand in self._inputs(self._steps(name)))
            if kind == "float" or (kind in ("lookup", "sum", "product", "mean") and born):
                self.in_float.update(self._steps(name))
        for name in reversed(list(self.kind)):
            if self.kind[name] in cheap and all(user == OUTPUT or self._born_in_float(user) for user in view.users[name]):
                self.in_float.add(name)
        # Last, since it changes nothing for others: a split of which one piece is wanted in float is made once more there.
        self.in_float.update(self.view.nodes[name].operands[0] for name in tuple(self.in_float) if self._is_piece(name))

    def _is_piece(self, name: str) -> bool:
        node = self.view.nodes[name]
        return node.op == "tuple_get_item" and self.kind.get(node.operands[0]) == "move"

    def _steps(self, name: str) -> tuple[str, ...]:
        """`name` with the sum or product inside it, where it is the clamp behind one."""
        return tuple(operand for operand in self.view.nodes[name].operands if self.kind.get(operand) == "inner") + (name,)

    def _born_in_float(self, name: str) -> bool:
        return name in self.in_float or (name in self.claimed and self.claimed[name].kind == "float_layer")

    def _island_at(self, name: str) -> Island | None:
        """The island that stores `name`, or None where it is only a step inside one."""
        view, kind = self.view, self.kind[name]
        node = view.nodes[name]
        if kind == "inner" or node.op == "split":
            return None
        if kind == "lookup":
            outside = [u for u in view.users[name] if u == OUTPUT or self._born_in_float(u) or self.root.get(u) != self.root[name]]
            ops = self._closure(name) if outside else ()
        else:
            ops = (*node.operands, name) if node.op == "tuple_get_item" else self._steps(name)
        return Island(kind=kind, ops=ops, inputs=self._inputs(ops)) if ops else None

    def _closure(self, name: str) -> tuple[str, ...]:
        """Every step between the root and `name`, in execution order."""
        root, wanted, pending = self.root[name], set(), [name]
        while pending:
            current = pending.pop()
            if current != root and current not in wanted:
                wanted.add(current)
                pending.extend(self.view.nodes[current].operands)
        return tuple(step for step in self.view.nodes if step in wanted)

    def _inputs(self, ops: Collection[str]) -> tuple[str, ...]:
        read = [operand for name in ops for operand in self.view.nodes[name].operands]
        return tuple(dict.fromkeys(name for name in read if name not in ops and not self.view.is_param(name)))


def find_islands(view: Dataflow, float_layers: Collection[str] = ()) -> Islands:
    """The islands of a deploy-form function, annotated or not.   float_layers: weights of layers that are left in float."""
    return _Search(view, float_layers).run()
