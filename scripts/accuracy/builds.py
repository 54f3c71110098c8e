"""A case made runnable: by our integer library, by fake quantization where there is none, or by a rival's runtime."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import tvm_rsq
from scripts.accuracy.calibrations import STOPPED
from scripts.accuracy.case import Case
from scripts.accuracy.fake_quant import fake_quant
from scripts.accuracy.methods import METHODS, Method
from scripts.accuracy.rival_nncf import nncf_int8
from scripts.accuracy.rival_onnxruntime import onnxruntime_int8
from scripts.accuracy.row import FAKE_QUANT, INTEGER_LIBRARY
from scripts.accuracy.seed_nonuniform import quantize_nonuniform
from scripts.models.network import Network
from scripts.peers.build import PeerError
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.errors import UnsupportedError
from tvm_rsq.plan import QuantPlan
from tvm_rsq.planner import uses_levers
from tvm_rsq.quantized_model import QuantizedModel

_TARGET = "llvm"
_FAKE_BATCH = 25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Build:
    """run: float32 (batch, C, H, W) -> outputs; batch: how many at once; plan: None of a rival"""

    run: Callable[[np.ndarray], np.ndarray]
    evaluated_as: str
    quantization_s: float
    batch: int = 1
    plan: QuantPlan | None = None


def build(case: Case, network: Network, samples: CalibrationSet, scratch: Path) -> Build:
    """UnsupportedError, ConfigError, PeerError: there is no such combination."""
    method = METHODS[case.method]
    if case.scheme not in method.schemes:
        raise UnsupportedError(f"{case.method} is for {', '.join(method.schemes)}, not {case.scheme}")
    if case.weight_bits not in method.bits:
        raise UnsupportedError(f"{case.method} is for {', '.join(map(str, method.bits))}-bit weights, not {case.weight_bits}")
    if method.kind in ("onnxruntime", "nncf"):
        return _rival(case, method, network, samples, scratch)
    start = time.perf_counter()
    quantized = _quantized(case, method, network, samples)
    if method.kind == "non-uniform":
        weights = _codebooks(quantized, case)
        seconds = time.perf_counter() - start
        run = fake_quant(quantized.model, quantized.plan, weights)
        return Build(run=run, evaluated_as=FAKE_QUANT, quantization_s=seconds, batch=_FAKE_BATCH, plan=quantized.plan)
    seconds = time.perf_counter() - start
    run = quantized.compile(_TARGET).run
    return Build(run=run, evaluated_as=INTEGER_LIBRARY, quantization_s=seconds, plan=quantized.plan)


def _quantized(case: Case, method: Method, network: Network, samples: CalibrationSet) -> QuantizedModel:
    config = method.config(case.bits, case.scheme, case.seed)
    # Levers are decided for a target, as `tvm_rsq.compile` does.
    target = _TARGET if uses_levers(config) else None
    found = tvm_rsq.quantize(
        network.model, config, target=target, example_inputs=network.example_inputs, calibration=samples, batch=1, name=case.network
    )
    if any(note.startswith(STOPPED) for note in found.plan.notes):
        raise KeyboardInterrupt  # as in calibrations
    return found


def _codebooks(quantized: QuantizedModel, case: Case) -> dict[str, np.ndarray]:
    def axis(name: str) -> int | None:
        weight = quantized.model.params[name]
        return None if case.scheme == "per_tensor" else weight.ndim - 1 if quantized.plan.layer(name).op == "dense" else 0

    names = [layer.name for layer in quantized.plan.layers if layer.scheme != "float"]
    return {name: quantize_nonuniform(quantized.model.params[name], case.weight_bits, axis(name)) for name in names}


def _rival(case: Case, method: Method, network: Network, samples: CalibrationSet, scratch: Path) -> Build:
    if not isinstance(network.model, torch.nn.Module):
        raise PeerError(f"{case.method} is given torch modules here, and {case.network} is a file")
    if case.activation_bits != 8:
        raise UnsupportedError(f"{case.method} has 8-bit activations, not {case.activation_bits}")
    start = time.perf_counter()
    # In a folder of its own: a kept one would take no time.
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        if method.kind == "nncf":
            run, runtime = nncf_int8(network.model, samples.inputs[0], Path(folder)), "OpenVINO"
        else:
            per_channel = case.scheme == "per_channel"
            run, runtime = onnxruntime_int8(network.model, samples.inputs[0], Path(folder), per_channel=per_channel), "ONNX Runtime"
    return Build(run=run, evaluated_as=runtime, quantization_s=time.perf_counter() - start)
