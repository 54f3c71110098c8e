"""Make stored tensors outputs of the network as well, to look at them.

Before  main(x): x_q = quantize(x); x_dq = dequantize(x_q); ...; return y
After   main(x): ...; return (y, x_q)
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax
from tvm.ir import IRModule

from tvm_rsq.passes.dataflow import Dataflow, operator_of
from tvm_rsq.passes.drop_copies import drop_copies
from tvm_rsq.passes.rewrite_bindings import substitute


def expose(mod: IRModule, tensors: Sequence[str]) -> IRModule:
    """A new module whose main returns (results..., integer form of each of `tensors`).   KeyError: a tensor that is not stored."""
    main, view = mod["main"], Dataflow(mod)
    bindings = [binding for block in main.body.blocks for binding in block.bindings]
    integer = [b for b in bindings if operator_of(b.value) in ("quantize", "clip") and str(b.var.ty.dtype) == "uint8"]
    stored = {view.source(b.var): b.var for b in integer}
    builder = relax.BlockBuilder()
    replaced: dict[relax.Var, relax.Expr] = {}
    with builder.function("main", list(main.params), attrs=dict(main.attrs) if main.attrs else None):
        with builder.dataflow():
            for binding in bindings:
                replaced[binding.var] = builder.emit(substitute(binding.value, replaced), name_hint=binding.var.name)
            body = main.body.body
            results = list(body.fields) if isinstance(body, relax.Tuple) else [body]
            wanted = results + [stored[name] for name in tensors]
            outputs = [builder.emit_output(substitute(value, replaced)) for value in wanted]
        builder.emit_func_output(relax.Tuple(outputs))
    return drop_copies(builder.get())
