"""Fold every integer island of an annotated network into one private function, from stored tensors to a stored tensor.

Before  x_dq = dequantize(x_q, s_x, z_x);  w_dq = dequantize(w, s_w, 0)
        c = conv2d(x_dq, w_dq);  y = relu(c)
        y_q = quantize(y, s_y, z_y)
After   y_q = conv2d_y(x_q, w)

        conv2d_y(x_q: uint8, w: int8) -> uint8, private, attributes rsq.kind = "conv2d", rsq.layer = "w", rsq.tensor = "y", and what
        main's rsq.requantize, rsq.accumulate16, rsq.codebook and rsq.levels say of the layer:
            the same five operations

An island whose result is wanted in float ends without the quantize. A layer that is left in float is folded as "float_layer",
without the dequantize of its inputs. Operators of float islands stay in main. The quantization of the network's input, a stored
tensor that no island makes, stays in main as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tvm import relax
from tvm.ir import IRModule

from tvm_rsq.passes.dataflow import Dataflow, operator_of, variables_of
from tvm_rsq.passes.drop_copies import drop_copies
from tvm_rsq.passes.find_islands import Island, find_islands
from tvm_rsq.passes.rewrite_bindings import substitute

_GRANTED = ("rsq.requantize", "rsq.accumulate16", "rsq.codebook", "rsq.levels")


def fold_islands(mod: IRModule) -> IRModule:
    """A new module; the one handed in is not touched."""
    return _Fold(mod).run()


@dataclass
class _Fold:
    mod: IRModule
    values: dict[str, relax.Expr] = field(default_factory=dict)
    builder: relax.BlockBuilder = field(default_factory=relax.BlockBuilder)
    replaced: dict[relax.Var, relax.Expr] = field(default_factory=dict)

    def run(self) -> IRModule:
        main = self.mod["main"]
        view = Dataflow(self.mod)
        bindings = [binding for block in main.body.blocks for binding in block.bindings]
        self.values = {binding.var.name: binding.value for binding in bindings}
        float_layers = {
            weight for node in view.nodes.values() if node.op in ("nn.conv2d", "matmul")
            if (weight := view.operand(node.name, 1)) is not None and weight in view.params and weight not in view.quantization
        }  # fmt: skip
        found = find_islands(view, float_layers)
        islands = found.islands
        stored = self._stored_as(bindings, view)
        # A float layer's result leaves it in float, and is quantized in main where it is stored.
        requantized = {island.output for island in islands if island.kind != "float_layer"}
        ends = {stored.get(island.output, island.output) if island.output in requantized else island.output: island for island in islands}
        inner = {name for island in islands for name in island.ops if name not in found.float_ops} | {
            binding.var.name for binding in bindings if view.source(binding.var) in requantized
            and binding.var.name not in ends and operator_of(binding.value) in ("quantize", "clip")
        }  # fmt: skip
        with self.builder.function("main", list(main.params), attrs=dict(main.attrs) if main.attrs else None):
            with self.builder.dataflow():
                for binding in bindings:
                    name = binding.var.name
                    if name in ends:
                        value = self._call(ends[name], binding.var)
                    elif name in inner:
                        continue
                    else:
                        value = substitute(binding.value, self.replaced)
                    self.replaced[binding.var] = self.builder.emit(value, name_hint=name)
                result = self.builder.emit_output(substitute(main.body.body, self.replaced))
            self.builder.emit_func_output(result)
        return relax.transform.DeadCodeElimination(["main"])(drop_copies(self.builder.get()))

    @staticmethod
    def _stored_as(bindings: list[relax.Binding], view: Dataflow) -> dict[str, str]:
        """Tensor -> the variable that holds its last integer form (behind quantize, and clip below 8 bits)."""
        found = {}
        for binding in bindings:
            if operator_of(binding.value) in ("quantize", "clip") and str(binding.var.ty.dtype) == "uint8":
                found[view.source(binding.var)] = binding.var.name
        return found

    def _call(self, island: Island, end: relax.Var) -> relax.Expr:
        """Make the island's function and the call that stands for it."""
        steps, inputs = self._body(island, end)
        params = {var: relax.Var(var.name, var.ty) for var in inputs}
        inside: dict[relax.Var, relax.Expr] = dict(params)
        inner = relax.BlockBuilder()
        attrs = {"rsq.kind": island.kind, "rsq.layer": island.layer or "", "rsq.tensor": island.output, **self._granted(island)}
        with inner.function("island", list(params.values()), attrs=attrs, private=True):
            with inner.dataflow():
                for var, value in steps[:-1]:
                    inside[var] = inner.emit(substitute(value, inside), name_hint=var.name)
                result = inner.emit_output(substitute(steps[-1][1], inside), name_hint=steps[-1][0].name)
            inner.emit_func_output(result)
        name = re.sub(r"\W", "_", f"{island.kind}_{island.layer or island.output}")
        function = self.builder.add_func(inner.get()["island"], name)
        return relax.Call(function, [self.replaced.get(var, var) for var in inputs])

    def _granted(self, island: Island) -> dict[str, object]:
        attrs = dict(self.mod["main"].attrs or {})
        noted = {key: attrs.get(key, {}) for key in _GRANTED}
        return {key: layers[island.layer] for key, layers in noted.items() if island.layer in layers}

    def _body(self, island: Island, end: relax.Var) -> tuple[list[tuple[relax.Var, relax.Expr]], list[relax.Var]]:
        """The bindings of the island from its dequantizes to `end`, and the variables they read from outside."""
        dequantizes = island.kind != "float_layer"
        steps: dict[relax.Var, relax.Expr] = {}
        inputs: dict[relax.Var, None] = {}

        def need(var: relax.Var) -> None:
            value = self.values.get(var.name)
            op = operator_of(value) if value is not None else ""
            inside = var.name in island.ops or (dequantizes and op == "dequantize") or (var.name == end.name)
            inside = inside or (op in ("quantize", "clip") and str(var.ty.dtype) == "uint8" and self._quantizes(var, island))
            if value is None or not inside:
                inputs.setdefault(var)
                return
            for operand in variables_of(value):
                if operand not in steps and operand not in inputs:
                    need(operand)
            steps[var] = value

        need(end)
        return list(steps.items()), list(inputs)

    def _quantizes(self, var: relax.Var, island: Island) -> bool:
        """A quantize (or the clip behind it) of this island's own result."""
        operand = self.values[var.name].args[0]
        if operand.name == island.output:
            return True
        return operand.name in self.values and str(operand.ty.dtype) == "uint8" and self._quantizes(operand, island)
