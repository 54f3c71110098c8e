"""Replace every island by a call of one kernel, and every remaining quantize by the quantize kernel.

Before  y_q = conv2d_y(x_q, w, b)                       a private function of relax operations
After   y_q = call_tir(conv2d_kernel, (x_q, packed weight, folded bias, multiplier))

The kernels and the layout of their weights come from the target's KernelLibrary; nothing here knows a target. What is left in main
besides kernels are the operators of float islands, for relax's own legalisation. After this pass no parameter is read: everything is a
constant, or a further parameter of main, which `expand_weights` makes (see lower_codebook). The quantize of an image input and the
permutation behind it become one kernel. Parts that concat_in_place has placed:

Before  a_q = conv2d_a(x_q, w); b_q = conv2d_b(x_q, v); y_q = concat_y(a_q, b_q)
After   y_0 = call_tir(conv2d, (x_q, ...)); y_q = call_tir_inplace(conv2d_1, (x_q, ..., y_0), inplace_indices=[...])
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from tvm import relax, tirx
from tvm.ir import GlobalVar, IRModule
from tvm.s_tir import SBlock, SBlockRealize

from tvm_rsq.passes.dataflow import operator_of, variables_of
from tvm_rsq.passes.drop_copies import drop_copies
from tvm_rsq.passes.island_view import Expanded, IslandView, LoweredCall, static_attr
from tvm_rsq.passes.lower_arithmetic import lower_concat, lower_mean, lower_product, lower_sum
from tvm_rsq.passes.lower_layer import lower_layer
from tvm_rsq.passes.lower_movement import Evaluate, lower_clamp, lower_lookup, lower_move
from tvm_rsq.passes.rewrite_bindings import substitute
from tvm_rsq.targets.carrier import offset
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.kernel_library import KernelLibrary
from tvm_rsq.targets.workloads_elementwise import QuantizeWorkload

log = logging.getLogger(__name__)

EXPAND = "expand_weights"  # () -> the parameters that main takes behind its inputs, in order
_OPAQUE = 8  # relax's kOpaque: no fusion looks into a scheduled kernel


@dataclass(frozen=True, kw_only=True)
class KernelCall:
    """One kernel call of the lowered network, in order: the tensor it makes, its layer ("" for none), its kernel's name.

    symbol  how the function is called in the library, up to a number behind it
    """

    tensor: str
    layer: str
    kernel: str

    @property
    def symbol(self) -> str:
        return re.sub(r"\W", "_", self.kernel)


def lower_islands(
    mod: IRModule, params: Mapping[str, np.ndarray], library: KernelLibrary, evaluate: Evaluate
) -> tuple[IRModule, tuple[KernelCall, ...]]:
    """The module with main(inputs, weights that `expand_weights` makes), and what was called.   evaluate: see lower_movement.Evaluate."""
    return _Lower(mod, params, library, evaluate).run()


@dataclass
class _Lower:
    mod: IRModule
    params: Mapping[str, np.ndarray]
    library: KernelLibrary
    evaluate: Evaluate
    builder: relax.BlockBuilder = field(default_factory=relax.BlockBuilder)
    replaced: dict[relax.Var, relax.Expr] = field(default_factory=dict)
    calls: list[KernelCall] = field(default_factory=list)
    wholes: dict[str, relax.Expr] = field(default_factory=dict)
    ready: dict[relax.Var, tuple[IslandView, LoweredCall]] = field(default_factory=dict)
    expanded: dict[int, relax.Var] = field(default_factory=dict)  # id of an Expanded -> main's parameter

    def run(self) -> tuple[IRModule, tuple[KernelCall, ...]]:
        main = self.mod["main"]
        count = int(main.attrs["num_input"])
        inputs = list(main.params)[:count]
        for var in list(main.params)[count:]:
            self.replaced[var] = relax.const(self.params[var.name], str(var.ty.dtype))
        bindings = [binding for block in main.body.blocks for binding in block.bindings]
        fused = self._input_permutations(bindings)
        for binding in bindings:
            inside = binding.var in fused.values()
            if isinstance(binding.value, relax.Call) and isinstance(binding.value.op, GlobalVar) and not inside:
                island = IslandView(self.mod, binding.value.op.name_hint, self.library.carrier)
                self.ready[binding.var] = island, self._lowered(island)
        made = self._expand()
        with self.builder.function("main", [*inputs, *made], attrs={"num_input": count}):
            with self.builder.dataflow():
                for binding in bindings:
                    if binding.var in fused.values():
                        continue
                    target = fused.get(binding.var, binding.var)
                    self.replaced[target] = self._bound(binding, target)
                result = self.builder.emit_output(substitute(main.body.body, self.replaced))
            self.builder.emit_func_output(result)
        entries = ["main", EXPAND] if made else ["main"]
        return relax.transform.DeadCodeElimination(entries)(drop_copies(self.builder.get())), tuple(self.calls)

    def _expand(self) -> list[relax.Var]:
        """main's parameters for the weights that are made when the library is loaded; the function that makes them, where there are any."""
        wanted = [
            (island.layer, argument) for island, lowered in self.ready.values() for argument in lowered.arguments
            if isinstance(argument, Expanded)
        ]  # fmt: skip
        if not wanted:
            return []
        params = [relax.Var(layer, relax.TensorType(weight.shape, weight.dtype)) for layer, weight in wanted]
        self.expanded = {id(weight): param for (_, weight), param in zip(wanted, params, strict=True)}
        with self.builder.function(EXPAND, []):
            with self.builder.dataflow():
                made = [
                    self.builder.emit(
                        relax.op.call_tir(
                            self._function(weight.kernel), [relax.const(array) for array in weight.arguments],
                            out_ty=relax.TensorType(weight.shape, weight.dtype),
                        ),
                        name_hint=layer,
                    )
                    for layer, weight in wanted
                ]  # fmt: skip
                result = self.builder.emit_output(relax.Tuple(made))
            self.builder.emit_func_output(result)
        return params

    def _bound(self, binding: relax.Binding, target: relax.Var) -> relax.Expr:
        value = binding.value
        if isinstance(value, relax.Call) and isinstance(value.op, GlobalVar):
            island, lowered = self.ready.pop(binding.var)  # with its packed weights, which are constants of the module from now on
            given = dict(zip((var.name for var in island.view.function.params), value.args, strict=True))
            return self._emit(lowered, given, island.tensor, island.layer)
        if operator_of(value) == "quantize":
            return self._quantize(value, target, permuted=not target.same_as(binding.var))
        if operator_of(value) == "dequantize" and value.args[0] in self.replaced:
            return self._dequantize(value)
        return self.builder.emit(substitute(value, self.replaced), name_hint=binding.var.name)

    def _lowered(self, island: IslandView) -> LoweredCall:
        if island.layer:
            return lower_layer(island, self.params, self.library)
        if island.kind == "lookup":
            return lower_lookup(island, self.library, self.evaluate)
        lower = {
            "sum": lower_sum, "product": lower_product, "mean": lower_mean,
            "concat": lower_concat, "clamp": lower_clamp, "move": lower_move,
        }  # fmt: skip
        return lower[island.kind](island, self.library)

    def _emit(self, lowered: LoweredCall, given: Mapping[str, relax.Expr], tensor: str, layer: str) -> relax.Expr:
        arguments = [self._argument(argument, given, lowered) for argument in lowered.arguments]
        whole = self.wholes.get(lowered.whole or "")
        if lowered.kernel is None:
            return self._reshaped(arguments[0] if whole is None else whole, lowered.shape)
        log.info("%s: %s", layer or tensor, lowered.kernel.name)
        self.calls.append(KernelCall(tensor=tensor, layer=layer, kernel=lowered.kernel.name))
        function = self._function(lowered.kernel)
        out_ty = relax.TensorType(lowered.shape, lowered.dtype)
        if whole is None:  # the first part of a concatenation makes room for the others
            call = relax.op.call_tir(function, arguments, out_ty=out_ty)
        else:
            call = relax.op.call_tir_inplace(function, [*arguments, whole], inplace_indices=[len(arguments)], out_ty=out_ty)
        made = self.builder.emit(call, name_hint=tensor)
        if lowered.whole:
            self.wholes[lowered.whole] = made
        return self._reshaped(made, lowered.result_shape or lowered.shape)

    def _argument(self, argument: str | np.ndarray | Expanded, given: Mapping[str, relax.Expr], lowered: LoweredCall) -> relax.Expr:
        if isinstance(argument, np.ndarray):
            return relax.const(np.ascontiguousarray(argument), str(argument.dtype))
        if isinstance(argument, Expanded):
            return self.expanded[id(argument)]
        value = given[argument]
        value = self.replaced.get(value, value)
        return self._reshaped(value, lowered.shapes[argument]) if argument in lowered.shapes else value

    def _reshaped(self, value: relax.Expr, shape: tuple[int, ...]) -> relax.Expr:
        if tuple(int(extent) for extent in value.ty.shape.values) == tuple(shape):
            return value
        return self.builder.emit(relax.op.reshape(value, shape))

    def _function(self, kernel: Kernel) -> GlobalVar:
        """The kernel's function in the module; equal kernels share one."""
        name = re.sub(r"\W", "_", kernel.name)
        function = _in_block(kernel.prim_func).with_attrs({"global_symbol": name, "tirx.is_scheduled": True, "op_pattern": _OPAQUE})
        return self.builder.add_func(function, name)

    def _quantize(self, value: relax.Call, target: relax.Var, *, permuted: bool) -> relax.Expr:
        """quantize(x) -> `target`, which is its own variable or the permutation behind it."""
        source = self.replaced.get(value.args[0], value.args[0])
        shape = tuple(int(extent) for extent in value.args[0].ty.shape.values)
        out_shape = tuple(int(extent) for extent in target.ty.shape.values)
        permutation = (0, 2, 3, 1) if permuted else None
        zero = int(value.args[2].value.numpy())
        kernel = self.library.quantize(QuantizeWorkload(shape=shape, permutation=permutation, dtype=self.library.carrier, zero_point=zero))
        inverse = np.array([np.float32(1.0) / np.float32(value.args[1].value.numpy())], np.float32)
        call = LoweredCall(kernel=kernel, arguments=("x", inverse), shape=out_shape, dtype=self.library.carrier)
        return self._emit(call, {"x": source}, target.name, "")

    def _dequantize(self, value: relax.Call) -> relax.Expr:
        """What a float island reads of a stored tensor: relax's own operator, with the zero point of what is stored."""
        source, scale, zero, carrier = self.replaced[value.args[0]], value.args[1], value.args[2], self.library.carrier
        if str(zero.ty.dtype) == "uint8":
            zero = relax.const(zero.value.numpy().astype(np.int16) - offset(carrier), carrier)
        return self.builder.emit(relax.op.dequantize(source, scale, zero, axis=int(value.attrs.axis), out_dtype=str(value.attrs.out_dtype)))

    def _input_permutations(self, bindings: list[relax.Binding]) -> dict[relax.Var, relax.Var]:
        """quantize's variable -> the variable of the NCHW to NHWC permutation that is its only reader."""
        readers: dict[relax.Var, list[relax.Binding | None]] = {var: [None] for var in variables_of(self.mod["main"].body.body)}
        for binding in bindings:
            for var in variables_of(binding.value):
                readers.setdefault(var, []).append(binding)
        found = {}
        for binding in bindings:
            users = readers.get(binding.var, [])
            if operator_of(binding.value) == "quantize" and len(users) == 1 and users[0] and self._is_nhwc_permutation(users[0].value):
                found[binding.var] = users[0].var
        return found

    def _is_nhwc_permutation(self, value: relax.Expr) -> bool:
        if not (isinstance(value, relax.Call) and isinstance(value.op, GlobalVar)):
            return False
        result = IslandView(self.mod, value.op.name_hint).result
        return result.op == "permute_dims" and result.expr.attrs.axes is not None and static_attr(result.expr.attrs.axes) == (0, 2, 3, 1)


def _in_block(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """relax's RewriteDataflowReshape looks into every function that reads one tensor, and fails where its body is no block."""
    if isinstance(function.body, SBlockRealize):
        return function
    return function.with_body(SBlockRealize([], True, SBlock([], [], [], "root", function.body)))
