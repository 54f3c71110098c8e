"""A whole network as cases: every kernel that it calls, quantized per channel on noise, which changes no instruction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from tvm import relax

import tvm_rsq
from scripts.instructions.case import Case
from scripts.models.registry import load
from tvm_rsq import pipeline
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.compiler import evaluate_elementwise
from tvm_rsq.config import QuantConfig
from tvm_rsq.passes.dataflow import operator_of
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.spec import TargetSpec

_SAMPLES = 2
_KERNEL_CALLS = ("call_tir", "call_tir_inplace")


def network_sums(name: str, spec: TargetSpec) -> Mapping[str, tuple[Case, ...]]:
    """NAME -> a case for every kernel call, "NAME, KIND" -> those that multiply, by the first word of their kernels' names.

    Operators that stay in float, and what runs between kernels, are left out.

    FetchError: unknown, or not cached; Error: it cannot be quantized.
    """
    network = load(name)
    noise = np.random.default_rng(0).standard_normal((_SAMPLES, *network.example_inputs[0].shape[1:]), np.float32)
    quantized = tvm_rsq.quantize(
        network.model, QuantConfig(scheme="per_channel", levers="none"), example_inputs=network.example_inputs,
        calibration=CalibrationSet(inputs=(noise,), source="gaussian"), name=name,
    )  # fmt: skip
    module, calls = pipeline.lower(quantized.annotated, spec.library, evaluate_elementwise)
    macs = {layer.name: layer.macs for layer in quantized.plan.layers}
    symbols = [
        binding.value.args[0]
        for block in module["main"].body.blocks
        for binding in block.bindings
        if isinstance(binding.value, relax.Call) and operator_of(binding.value) in _KERNEL_CALLS
    ]
    found = defaultdict(list)
    for call, symbol in zip(calls, symbols, strict=True):
        kernel = Kernel(name=call.kernel, prim_func=module[symbol])
        case = Case(name=f"{name} {symbol.name_hint}", make=lambda _library, kernel=kernel: kernel, work=macs.get(call.layer, 0))
        found[name].append(case)
        if case.work:
            found[f"{name}, {call.kernel.partition('_')[0]}"].append(case)
    return {sum_name: tuple(cases) for sum_name, cases in found.items()}
