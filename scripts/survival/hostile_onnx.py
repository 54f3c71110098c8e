"""Corrupted ONNX files: refused in one line, or imported and answered as onnx's own reference implementation answers."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator

import tvm_rsq
from scripts.survival.corrupt_onnx import KINDS, corrupt
from scripts.survival.isolate import Wrong
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load
from tvm_rsq.model import Model

ABOUT = (
    "A sound ONNX file (three small ones of many operators, a QDQ one of ONNX Runtime's, ResNet-20) is damaged: flipped bits, truncations, "
    "pieces missing; or lies: extents up to 2^63, other types, attributes and operators, cycles, external data that leaves the folder, "
    "numbers that make terabytes. It survives where it is refused in one line by an error of ours, or where it still is a network: "
    "quantized, simulated, every eighth time compiled and run, equal to the simulation, and in FP32 equal to onnx's reference "
    "implementation. In a process of its own, with 30 s and 4 GB."
)
_COMPILED_EVERY = 8
_TOLERANCE = 1e-3  # of the largest value, between float32 sums of different orders
_LEVELS_APART = 1e-5
_REFERENCE_BATCH_NORM = 14  # the first opset whose batch norm onnx's reference does not train


def cases(networks: Mapping[str, bytes], count: int, seed: int, folder: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """(what it is, the action that says how it went or raises) of every case."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        kind, name = KINDS[number % len(KINDS)], list(networks)[number // len(KINDS) % len(networks)]
        yield f"{number} {name}, {kind}", functools.partial(_attempt, networks[name], kind, rng, folder, number % _COMPILED_EVERY == 0)


def _attempt(sound: bytes, kind: str, rng: np.random.Generator, folder: Path, compiled: bool) -> str:
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return check(corrupt(sound, kind, rng, place), compiled=compiled)


def check(path: Path, *, compiled: bool = False) -> str:
    """Take the file for a network, all the way.   tvm_rsq.Error: refused. Wrong: an answer is not right."""
    model = load(path)
    rng = np.random.default_rng(0)
    data = [rng.standard_normal((2, *spec.shape), np.float32).reshape(-1, *spec.shape[1:]) for spec in model.inputs]
    inputs = [values[: spec.shape[0]] for spec, values in zip(model.inputs, data, strict=True)]
    said = _compare_reference(path, model, inputs)
    quantized = tvm_rsq.quantize(model, tvm_rsq.QuantConfig(levers="none"), calibration=data)
    simulated = _all(quantized.simulate(*inputs))
    if compiled:
        for ours, expected in zip(_all(quantized.compile("llvm").run(*inputs)), simulated, strict=True):
            scale = float(np.abs(expected).max(initial=0.0)) if np.isfinite(expected).all() else 1.0
            if not np.allclose(ours, expected, rtol=_LEVELS_APART, atol=_LEVELS_APART * scale, equal_nan=True):
                raise Wrong("the library differs from the simulation")
    return said + (", compiled" if compiled else "")


def _compare_reference(path: Path, model: Model, inputs: list[np.ndarray]) -> str:
    """FP32 against onnx's own implementation, where that takes the file too. Not for QDQ files, whose FP32 network is another one."""
    proto = onnx.load(path, load_external_data=False)
    operators = {node.op_type for node in proto.graph.node}
    if "QuantizeLinear" in operators:
        return "QDQ"
    if "BatchNormalization" in operators and max(entry.version for entry in proto.opset_import) < _REFERENCE_BATCH_NORM:
        return "the reference's batch norm updates its statistics"
    try:
        expected = ReferenceEvaluator(str(path)).run(None, {spec.name: array for spec, array in zip(model.inputs, inputs, strict=True)})
    except Exception as error:  # noqa: BLE001  whatever it stumbles over
        return f"the reference cannot ({type(error).__name__})"
    with torch.no_grad():
        found = Executor(model).run([torch.from_numpy(array) for array in inputs])
    for ours, theirs in zip(found, expected, strict=True):
        ours = ours.numpy()
        scale = float(np.abs(theirs[np.isfinite(theirs)]).max(initial=1e-30))
        if ours.shape != theirs.shape or (np.isfinite(theirs).all() and not np.allclose(ours, theirs, rtol=1e-3, atol=_TOLERANCE * scale)):
            raise Wrong(f"FP32 differs from the reference: {ours.shape} and {theirs.shape}, by {_apart(ours, theirs):.3g} of {scale:.3g}")
    return "equal to the reference"


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max(initial=0.0)) if ours.shape == theirs.shape else float("nan")


def _all(outputs: np.ndarray | tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)
