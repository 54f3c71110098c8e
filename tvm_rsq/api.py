"""The public functions: quantize, compile, synthesize, build_float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tvm_rsq import pipeline
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.check_levers import check_levers
from tvm_rsq.compiled_module import CompiledModule
from tvm_rsq.compiler import compile_float, compile_quantized
from tvm_rsq.config import QuantConfig, SynthesisConfig
from tvm_rsq.decide import decide, known_statistics
from tvm_rsq.errors import CalibrationError, ConfigError
from tvm_rsq.frontend.load_model import load as load_model
from tvm_rsq.layer_cost import timed_target
from tvm_rsq.model import Model
from tvm_rsq.planner import uses_levers
from tvm_rsq.progress import ProgressCallback, silent
from tvm_rsq.qdq_import.adopt import adopt, check_config
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.remote.device import RemoteDevice
from tvm_rsq.remote.remote_runner import remote_runner
from tvm_rsq.resolve_overrides import layer_names, resolve_overrides
from tvm_rsq.synthesis import synthesize as synthesize_inputs
from tvm_rsq.targets.device_code import check_compiler
from tvm_rsq.targets.linker import find_linker
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.torch_device import torch_device
from tvm_rsq.tune_config import TuneConfig
from tvm_rsq.tuning.placed_codes import Codes, check_codes
from tvm_rsq.tuning.tune_network import check_tuning

Calibration = CalibrationSet | np.ndarray | Sequence[np.ndarray] | str | Path | None


def quantize(
    model: Any,
    config: QuantConfig | None = None,
    *,
    target: Any = None,
    example_inputs: Any = None,
    calibration: Calibration = None,
    batch: int | None = None,
    name: str | None = None,
    device: RemoteDevice | None = None,
    progress: ProgressCallback | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> QuantizedModel:
    """Decide how every layer of a trained network is quantized.

    model           torch.nn.Module (with example_inputs), torch.export.ExportedProgram, onnx.ModelProto, or a path to .onnx / .pt2
    target          decide for this target: what a layer can be granted to be faster there, by measured time; as in `compile`. None, or a
                    target that does not run here: for any target, granularity alone
    calibration     None: made from the network alone; a CalibrationSet, the path of one, or an array of real inputs (N, ...)
    batch           fixes a symbolic batch dimension
    device          decide for these boards, in place of a target: by time measured there over RPC, or by what emulated ones count
    should_stop     asked between steps of the synthesis and of a reconstruction; True ends it early and keeps what is best so far
    ModelError, CalibrationError, TargetError as the parts raise them. ConfigError: so too, levers that `config` names and this target
    or this machine cannot give, and methods that need batch norms where there are none.
    DeviceError: no such board, or none is left.
    """
    progress, config = progress or silent, config or QuantConfig()
    spec = None if target is None and device is None else _spec(target, device)
    check_levers(config, spec, elsewhere=device is not None)
    torch_device()  # before the long work, as all that may be mistyped
    with remote_runner(device if uses_levers(config) else None, progress) as boards:
        machine = None if boards is None else boards.machine
        timed = None if spec is None or not uses_levers(config) else timed_target(spec, runner=boards, machine=machine)
        source = _load(model, example_inputs, batch, name, progress)
        deploy = pipeline.prepare(source)
        if source.quantization is not None:
            check_config(config)
        resolve_overrides(config.overrides, layer_names(deploy))  # before the long work: a mistyped pattern should not cost minutes
        known_statistics(source, config)  # likewise
        data = _calibration(source, config, calibration, progress, should_stop)
        if source.quantization is not None:
            decided = adopt(deploy, source.quantization, data, config, progress)
        else:
            decided = decide(source, deploy, data, config, progress, timed=timed, should_stop=should_stop)
    return QuantizedModel(source=source, model=deploy, plan=decided.plan, calibration=data, config=config, adjusted=decided.adjusted)


def compile(  # noqa: A001 (the name is the library's)
    model: Any,
    target: Any = None,
    config: QuantConfig | None = None,
    *,
    example_inputs: Any = None,
    calibration: Calibration = None,
    batch: int | None = None,
    name: str | None = None,
    tuning: TuneConfig | None = None,
    codes: Codes = "auto",
    device: RemoteDevice | None = None,
    progress: ProgressCallback | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> CompiledModule:
    """Quantize a network and compile it for a target: None or "llvm" (this machine), "llvm -mcpu=...", "llvm -mtriple=aarch64", a dict, a
    tvm Target or a preset's name. The other arguments are those of `quantize`; a QuantizedModel takes none of them: its decisions are made.

    tuning  tune the convolutions that lack records first, and use what was found; None: untuned kernels
    codes   where codes of weights below 8 bits become weights: once at loading ("load"), in the kernels, which keeps memory as small as the
            file ("kernel"), or whichever is faster ("auto")
    device  boards to compile for, in place of a target: what is measured, to decide and to tune, is measured there over RPC
    TargetError: unknown target, no linker for it, or to be tuned and not this machine's. ConfigError: arguments that a QuantizedModel
    cannot honour, or tuning=TuneConfig(trials=0) without such a folder. DeviceError: no such board, or none is left.
    """
    progress = progress or silent
    if isinstance(model, QuantizedModel):
        arguments = {"config": config, "example_inputs": example_inputs, "calibration": calibration, "batch": batch, "name": name}
        if given := [key for key, value in arguments.items() if value is not None]:
            raise ConfigError(f"compile got {', '.join(given)} with a QuantizedModel, which is quantized already; give them to quantize")
        quantized, spec = model, _spec(target, device)
    else:
        check_codes(codes)
        spec = _spec(target, device)  # before the long work, as is the linker: neither should cost minutes
        find_linker(spec)
        check_compiler(spec)
        if tuning is not None:
            check_tuning(tuning, spec, elsewhere=device is not None)
        quantized = quantize(
            model, config, target=None if device else spec, example_inputs=example_inputs, calibration=calibration, batch=batch, name=name,
            device=device, progress=progress, should_stop=should_stop,
        )  # fmt: skip
    with remote_runner(device if tuning is not None else None, progress) as boards:
        machine = None if boards is None else boards.machine
        return compile_quantized(quantized, spec, tuning=tuning, codes=codes, runner=boards, machine=machine, progress=progress)


def synthesize(
    model: Any,
    config: SynthesisConfig | None = None,
    *,
    example_inputs: Any = None,
    seed: int = 0,
    effort: str = "best",
    batch: int | None = None,
    progress: ProgressCallback | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> CalibrationSet:
    """Make calibration inputs from a network alone (retro-synthesis, unless `config` or effort "instant" says otherwise)."""
    progress = progress or silent
    source = _load(model, example_inputs, batch, None, progress)
    return synthesize_inputs(source, config, seed=seed, effort=effort, progress=progress, should_stop=should_stop)  # type: ignore[arg-type]


def build_float(
    model: Any, target: Any = "llvm", *, example_inputs: Any = None, batch: int | None = None, name: str | None = None,
    progress: ProgressCallback | None = None,
) -> CompiledModule:  # fmt: skip
    """The FP32 build of a network (or of a QuantizedModel's) with our own float kernels: the baseline of every comparison."""
    progress = progress or silent
    spec = parse_target(target)
    if isinstance(model, QuantizedModel):
        return compile_float(model.model, spec, progress=progress)
    return compile_float(pipeline.prepare(_load(model, example_inputs, batch, name, progress)), spec, progress=progress)


def _spec(target: Any, device: RemoteDevice | None) -> TargetSpec:
    if device is None:
        return parse_target("llvm" if target is None else target)
    if target is not None:
        raise ConfigError("got a target and a device, which says its own target; give RemoteDevice(target=...) alone")
    return device.spec()


def _load(model: Any, example_inputs: Any, batch: int | None, name: str | None, progress: ProgressCallback) -> Model:
    if isinstance(model, Model):
        return model
    return load_model(model, example_inputs, batch=batch, name=name, progress=progress)


def _calibration(
    source: Model, config: QuantConfig, given: Calibration, progress: ProgressCallback, should_stop: Callable[[], bool] | None
) -> CalibrationSet:
    if given is None:
        return synthesize_inputs(
            source, config.synthesis, seed=config.seed, effort=config.effort, progress=progress, should_stop=should_stop
        )
    if isinstance(given, CalibrationSet):
        found = given
    elif isinstance(given, (str, Path)):
        found = CalibrationSet.load(given)
    else:
        found = CalibrationSet(inputs=_arrays(given))
    if found.network_hash and found.network_hash != source.network_hash:
        raise CalibrationError("the calibration set was made for another network (its hash differs); synthesize one for this network")
    return found


def _arrays(given: np.ndarray | Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """float32 arrays of what may be any kind of float; others are left for CalibrationSet to refuse."""
    try:
        arrays = [np.asarray(array) for array in ((given,) if isinstance(given, np.ndarray) else given)]
    except (TypeError, ValueError) as error:
        got = type(given).__name__
        raise CalibrationError(f"calibration is {got} ({error}), expected an array (N, ...), or one for each input") from error
    return tuple(array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array for array in arrays)
