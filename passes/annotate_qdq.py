"""Annotate a deploy-form network with quantize/dequantize pairs, as a plan says.

Before  main(x, w: Tensor((O, KH, KW, I), "float32"), b: Tensor((O,), "float32")):
            c = conv2d(x, w);  a = add(c, b);  y = relu(a)
After   main(x, w: Tensor((O, KH, KW, I), "int8"), b: Tensor((O,), "int32")):
            x_q = quantize(x, s_x, z_x);  x_dq = dequantize(x_q, s_x, z_x)
            w_dq = dequantize(w, s_w, 0, axis=0);  b_dq = dequantize(b, s_x * s_w, 0, axis=0)
            c = conv2d(x_dq, w_dq);  a = add(c, b_dq);  y = relu(a)
            y_q = quantize(y, s_y, z_y);  y_dq = dequantize(y_q, s_y, z_y)

Only stored tensors get a pair: what is inside an island (see find_islands) stays as it is, so that a kernel requantizes once.
Values of fewer than 8 bits are clipped in the carrier: x_q = clip(quantize(x), 0, 2^bits - 1).
What the plan grants a layer beyond its grids, and QDQ has no words for, is noted in attributes of main: "rsq.requantize" (layer ->
arithmetic) and "rsq.accumulate16" (layer -> block length), both without the layers that have the default; "rsq.codebook" (layer -> books
of the 2^b values that its integers may have), of layers with 3, 4 or 6 bits; and "rsq.levels" (layer -> levels and scales), of layers in
float whose weights are their products.
This must run on the deploy form: a batch norm or an explicit padding between a layer and its activation would split the island.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from tvm import relax
from tvm.ir import IRModule

from tvm_rsq.codebook.scaled_levels import ScaledLevels
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.drop_copies import drop_copies
from tvm_rsq.passes.find_islands import Island, Islands, find_islands
from tvm_rsq.passes.rewrite_bindings import substitute
from tvm_rsq.targets.workload import Accumulate16, RequantizeArithmetic
from tvm_rsq.tensor_quant import TensorQuant


@dataclass(frozen=True, kw_only=True)
class LayerQuant:
    """Quantization of one layer's weight and bias.

    weight  int8, the shape of the parameter; scale float32 (O,) or (1,); axis of the output channels
    bias    int32, the shape of the bias parameter, or None; its scale is input_scale * scale
    requantize, accumulate16  as LayerPlan says
    books   what the integers of the weight may be, 2^bits of them, ascending, in each; several as of WeightGrid; none where a byte each is
            as good
    """

    weight: np.ndarray
    scale: np.ndarray
    axis: int
    input_scale: float
    bias: np.ndarray | None = None
    requantize: RequantizeArithmetic = "float"
    accumulate16: Accumulate16 = 0
    books: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class FloatCodes:
    """Of a layer that is left in float.   weight: float32, the shape of the parameter, products of the levels"""

    weight: np.ndarray
    levels: ScaledLevels


def annotate_qdq(
    mod: IRModule, params: Mapping[str, np.ndarray], layers: Mapping[str, LayerQuant], tensors: Mapping[str, TensorQuant],
    coded: Mapping[str, FloatCodes] = MappingProxyType({}),
) -> tuple[IRModule, dict[str, np.ndarray]]:  # fmt: skip
    """The annotated module and its parameters (int8 weights, int32 biases, the rest as they were).

    layers   weight name -> LayerQuant; a layer that is missing is left in float
    tensors  activation name -> TensorQuant
    coded    weight name -> FloatCodes, of layers that are left in float
    KeyError: a name that main does not have.
    """
    view = Dataflow(mod)
    unknown = ((layers.keys() | coded.keys()) - view.params) | (tensors.keys() - view.types.keys())
    if unknown:
        raise KeyError(f"main has no layer or tensor called {sorted(unknown)}")
    weights = {view.operand(n.name, 1) for n in view.nodes.values() if n.op in ("nn.conv2d", "matmul")}
    islands = find_islands(view, {w for w in weights if w is not None} - layers.keys())
    given = {**params, **{name: of.weight for name, of in coded.items()}}
    return _Annotate(view, islands, given, layers, tensors, coded).run()


@dataclass
class _Annotate:
    view: Dataflow
    found: Islands
    params: dict[str, np.ndarray]
    layers: Mapping[str, LayerQuant]
    tensors: Mapping[str, TensorQuant]
    coded: Mapping[str, FloatCodes]
    builder: relax.BlockBuilder = field(default_factory=relax.BlockBuilder)
    raw: dict[relax.Var, relax.Expr] = field(default_factory=dict)
    stored: dict[str, relax.Expr] = field(default_factory=dict)

    def run(self) -> tuple[IRModule, dict[str, np.ndarray]]:
        view, builder = self.view, self.builder
        biases = self._biases()
        island_of = _island_members(self.found.islands)
        new_params = [self._new_param(var, biases) for var in view.function.params]
        with builder.function("main", new_params, attrs=self._attributes()):
            with builder.dataflow():
                for old, new in zip(view.function.params, new_params, strict=True):
                    self.raw[old] = self._dequantized_param(old.name, new, biases)
                    self._store(old.name, new)
                for block in view.function.body.blocks:
                    for binding in block.bindings:
                        name = binding.var.name
                        near = self._near(name, island_of)
                        self.raw[binding.var] = value = builder.emit(substitute(binding.value, near), name_hint=name)
                        self._store(name, value)
                far = {var: self.stored.get(var.name, value) for var, value in self.raw.items()}
                result = builder.emit_output(substitute(view.function.body.body, far))
            builder.emit_func_output(result)
        return relax.transform.DeadCodeElimination(["main"])(drop_copies(builder.get())), self.params

    def _attributes(self) -> dict[str, object]:
        requantize = {name: layer.requantize for name, layer in self.layers.items() if layer.requantize != "float"}
        accumulate16 = {name: layer.accumulate16 for name, layer in self.layers.items() if layer.accumulate16}
        books = {name: [list(book) for book in layer.books] for name, layer in self.layers.items() if layer.books}
        levels = {name: [of.levels.levels.tolist(), of.levels.scale.tolist()] for name, of in self.coded.items()}
        granted = {"rsq.requantize": requantize, "rsq.accumulate16": accumulate16, "rsq.codebook": books, "rsq.levels": levels}
        return {**dict(self.view.function.attrs or {}), **{key: value for key, value in granted.items() if value}}

    def _biases(self) -> dict[str, LayerQuant]:
        """Bias parameter -> the layer whose island adds it."""
        found: dict[str, LayerQuant] = {}
        for island in self.found.islands:
            layer = self.layers.get(island.layer) if island.layer else None
            if layer is not None and layer.bias is not None:
                found[self.view.variable(island.ops[1], 1)] = layer
        return found

    def _new_param(self, var: relax.Var, biases: Mapping[str, LayerQuant]) -> relax.Var:
        name = var.name
        value = self.layers[name].weight if name in self.layers else biases[name].bias if name in biases else None
        if value is None:
            return var
        self.params[name] = value
        return relax.Var(name, relax.TensorType(value.shape, str(value.dtype)))

    def _dequantized_param(self, name: str, var: relax.Var, biases: Mapping[str, LayerQuant]) -> relax.Expr:
        if name in self.layers:
            layer = self.layers[name]
            return self._dequantize(var, layer.scale, layer.axis, "int8", name)
        if name in biases:
            layer = biases[name]
            scale = layer.scale * np.float32(layer.input_scale)
            return self._dequantize(var, scale, len(self.params[name].shape) - 1, "int32", name)
        return var

    def _dequantize(self, var: relax.Var, scale: np.ndarray, axis: int, dtype: str, name: str) -> relax.Expr:
        scale = np.asarray(scale, np.float32)
        scale = scale.reshape(()) if scale.size == 1 else scale
        zero = relax.const(np.zeros(scale.shape, dtype), dtype)
        call = relax.op.dequantize(var, relax.const(scale, "float32"), zero, axis=axis, out_dtype="float32")
        return self.builder.emit(call, name_hint=f"{name}_dq")

    def _store(self, name: str, value: relax.Expr) -> None:
        quant = self.tensors.get(name)
        if quant is None:
            return
        scale, zero = relax.const(np.float32(quant.scale), "float32"), relax.const(quant.zero_point, "uint8")
        q = self.builder.emit(relax.op.quantize(value, scale, zero, axis=-1, out_dtype="uint8"), name_hint=f"{name}_q")
        if quant.bits < 8:
            q = self.builder.emit(relax.op.clip(q, 0, 2**quant.bits - 1), name_hint=f"{name}_q{quant.bits}")
        self.stored[name] = self.builder.emit(
            relax.op.dequantize(q, scale, zero, axis=-1, out_dtype="float32"), name_hint=f"{name}_dq"
        )

    def _near(self, name: str, island_of: Mapping[str, list[frozenset[str]]]) -> dict[relax.Var, relax.Expr]:
        """What every variable stands for in the operation called `name`: itself within one island, else what was stored of it."""
        together = frozenset().union(*island_of.get(name, ()))
        return {var: value if var.name in together else self.stored.get(var.name, value) for var, value in self.raw.items()}


def _island_members(islands: tuple[Island, ...]) -> dict[str, list[frozenset[str]]]:
    members: dict[str, list[frozenset[str]]] = {}
    for island in islands:
        ops = frozenset(island.ops)
        for name in island.ops:
            members.setdefault(name, []).append(ops)
    return members
