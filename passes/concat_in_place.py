"""Let convolutions store straight into the tensor that a concatenation along the channels makes of their results.

Before  a_q = conv2d_a(x_q, w)                      (1, H, W, 8)
        b_q = conv2d_b(x_q, v)                      (1, H, W, 4)
        y_q = concat_y(a_q, b_q)                    (1, H, W, 12)
After   the same calls of the same operations; conv2d_a and conv2d_b have the attribute
            rsq.part = {"whole": "y", "pitch": 12, "offset": 0 or 8}
        and concat_y has rsq.in_place = ["a_q", "b_q"]: its parameters that need no copy any more

A part is the result of a convolution that is quantized as the whole is, and that nothing but this one concatenation reads. Whatever else
is concatenated is copied into its place, all of it by one kernel. Storing with the whole's pitch costs at most 3 %
(parts of 24 to 256 channels, pitches that are multiples of 64 bytes and others), and a copy more: so every part that can be in place is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tvm import relax
from tvm.ir import GlobalVar, IRModule

from tvm_rsq.passes.dataflow import variables_of
from tvm_rsq.passes.island_view import IslandView, Part
from tvm_rsq.passes.lower_arithmetic import is_requantized


def concat_in_place(mod: IRModule) -> IRModule:
    """A new module, of a folded one (see fold_islands); the one handed in is not touched."""
    main = mod["main"]
    calls = {
        binding.var: binding.value for block in main.body.blocks for binding in block.bindings
        if isinstance(binding.value, relax.Call) and isinstance(binding.value.op, GlobalVar)
    }  # fmt: skip
    readers = _readers(main)
    changed = IRModule(dict(mod.functions_items()), attrs=mod.attrs)
    for call in calls.values():
        name = call.op.name_hint
        if str(mod[name].attrs["rsq.kind"]) != "concat":
            continue
        concat = IslandView(mod, name)
        found = {var: part for var, part in _parts(concat, call.args).items() if readers[var] == 1 and _stores_parts(mod, calls, var)}
        for var, part in found.items():
            function = calls[var].op
            changed[function] = mod[function].with_attr("rsq.part", part._asdict())
        if found:
            params = [param.name for param, var in zip(mod[name].params, call.args, strict=True) if var in found]
            changed[call.op] = mod[name].with_attr("rsq.in_place", params)
    return changed


def _readers(main: relax.Function) -> Mapping[relax.Var, int]:
    values = [binding.value for block in main.body.blocks for binding in block.bindings]
    return Counter(var for value in [*values, main.body.body] for var in variables_of(value))


def _parts(concat: IslandView, given: Sequence[relax.Expr]) -> dict[relax.Var, Part]:
    """Where the arguments of a concatenation go that need no requantization; none where they do not lie side by side in every pixel."""
    node, rank = concat.result, len(concat.out_shape)
    if rank != 4 or int(node.expr.attrs.axis) % rank != rank - 1:
        return {}
    vars_of = dict(zip((param.name for param in concat.view.function.params), given, strict=True))
    found: dict[relax.Var, Part] = {}
    offset = 0
    for name in node.operands:
        if node.operands.count(name) == 1 and not is_requantized(concat.affine(name), concat.stored):
            found[vars_of[name]] = Part(concat.tensor, offset, concat.out_shape[-1])
        offset += concat.shape(name)[-1]
    return found


def _stores_parts(mod: IRModule, calls: Mapping[relax.Var, relax.Call], var: relax.Var) -> bool:
    """Whether `var` is made by a kernel that can store with a pitch."""
    return var in calls and str(mod[calls[var].op].attrs["rsq.kind"]) == "conv2d"
