"""Build: a QDQ network and a target -> a shared library, and the CompiledModule around it."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch
import tvm
from tvm import relax
from tvm.ir import IRModule

from tvm_rsq import pipeline
from tvm_rsq.compiled_module import CompiledModule, Contents
from tvm_rsq.executor import Executor
from tvm_rsq.held_folder import scratch_folder
from tvm_rsq.model import InputSpec, Model
from tvm_rsq.passes.expose import expose
from tvm_rsq.passes.lower_islands import EXPAND, KernelCall
from tvm_rsq.plan import QuantPlan
from tvm_rsq.plan_target import note_of_another_target
from tvm_rsq.progress import Progress, ProgressCallback, silent
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.report.collect import collect_report
from tvm_rsq.report.data import ReportData
from tvm_rsq.targets.device_code import device_code
from tvm_rsq.targets.linker import link_function
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.tune_config import TuneConfig
from tvm_rsq.tuning.placed_codes import Codes, PlacedCodes, check_codes
from tvm_rsq.tuning.runner import Runner
from tvm_rsq.tuning.task import Machine
from tvm_rsq.tuning.tune import TaskResult
from tvm_rsq.tuning.tune_network import tune_network, tuned_spec

log = logging.getLogger(__name__)


def compile_quantized(
    quantized: QuantizedModel, target: object = "llvm", *, tuning: TuneConfig | None = None, codes: Codes = "auto",
    runner: Runner | None = None, machine: Machine | None = None, progress: ProgressCallback = silent,
) -> CompiledModule:  # fmt: skip
    """An integer library of the plan for a target, with tuned kernels where `tuning` says so (see tuning.tune_network.tuned_spec).

    codes  where codes of weights become weights: once at loading ("load"), in the kernels, so that memory holds codes ("kernel"), or where
           that is faster, as a rule or as it was tuned ("auto")
    runner, machine  what measures kernels for `tuning`, and where; None: this machine
    A plan that was decided for another target is built all the same, with a note in the log and in the report.
    TargetError: unknown target, or no linker for it. ConfigError: another word for codes.
    """
    check_codes(codes)
    spec = parse_target(target)
    if tuning is not None:
        spec = tuned_spec(quantized.annotated, spec, tuning, evaluate_elementwise, runner=runner, machine=machine, progress=progress)
    if codes != "auto":
        spec = replace(spec, library=PlacedCodes(spec.library, codes))
    library, calls = build(quantized.annotated, spec, progress=progress)
    report = collect_report(quantized, spec.name, calls, len(library))
    if note := note_of_another_target(quantized.plan, spec):
        log.warning("%s", note)
        report = replace(report, notes=(*report.notes, note))
    return CompiledModule(_contents(quantized.model, spec, library, calls, quantized.plan, report=report))


def tune_quantized(
    quantized: QuantizedModel, target: object, tuning: TuneConfig, *, runner: Runner | None = None, machine: Machine | None = None,
    progress: ProgressCallback = silent,
) -> tuple[TaskResult, ...]:  # fmt: skip
    """Tune the convolutions of the plan; see tuning.tune.tune.   runner, machine: what measures kernels, and where; None: this machine"""
    spec = parse_target(target)
    return tune_network(quantized.annotated, spec, tuning, evaluate_elementwise, runner=runner, machine=machine, progress=progress)


def compile_float(model: Model, target: object = "llvm", *, progress: ProgressCallback = silent) -> CompiledModule:
    """The FP32 build of a deploy-form network with our own float kernels: the baseline of every speed-up."""
    spec = parse_target(target)
    library, calls = build(pipeline.annotate(model, {}, {}), spec, progress=progress)
    return CompiledModule(_contents(model, spec, library, calls, None))


def compile_exposed(quantized: QuantizedModel, target: object = "llvm") -> CompiledModule:
    """The same kernels with every stored tensor as a further output, in the plan's order: for comparing with the simulation."""
    spec = parse_target(target)
    exposed = replace(quantized.annotated, module=expose(quantized.annotated.module, list(quantized.plan.tensors)))
    library, calls = build(exposed, spec)
    return CompiledModule(_contents(exposed, spec, library, calls, quantized.plan))


def build(model: Model, spec: TargetSpec, *, progress: ProgressCallback = silent) -> tuple[bytes, tuple[KernelCall, ...]]:
    """QDQ form -> the bytes of a shared library, and the kernels it calls in order."""
    progress(Progress(stage="lower", done=0, total=1))
    mod, calls = pipeline.lower(model, spec.library, evaluate_elementwise)
    progress(Progress(stage="lower", done=1, total=1, detail=f"{len(calls)} kernel calls"))
    progress(Progress(stage="build", done=0, total=1))
    with device_code(spec) as finish:
        executable = _build(mod, spec)
        with scratch_folder() as folder:
            path = folder / "lib.so"
            executable.export_library(str(path), fcompile=link_function(spec), workspace_dir=str(folder))
            library = finish(path.read_bytes())
    progress(Progress(stage="build", done=1, total=1, detail=f"{len(library) / 1e6:.1f} MB"))
    return library, calls


def _build(mod: IRModule, spec: TargetSpec) -> tvm.runtime.Executable:
    target = spec.tvm_target()
    config = {"relax.backend.use_cuda_graph": spec.library.graph}
    with target, tvm.transform.PassContext(opt_level=3, config=config):
        passes = pipeline.build_passes([var.name_hint for var in mod.get_global_vars() if var.name_hint in ("main", EXPAND)], spec.library)
        return relax.build(tvm.transform.Sequential(passes)(mod), target, relax_pipeline=None)


def evaluate_elementwise(function: relax.Function, values: np.ndarray) -> np.ndarray:
    """A function of one tensor on an array of its values, in float64: what lookup tables are made of."""
    inputs = tuple(InputSpec(name=var.name, shape=values.shape, dtype=str(values.dtype)) for var in function.params)
    model = Model(module=IRModule({"main": function}), params={}, inputs=inputs)
    with torch.no_grad():
        (result,) = Executor(model, dtype=torch.float64).run([torch.from_numpy(values)])
    return result.numpy()


def _contents(
    model: Model, spec: TargetSpec, library: bytes, calls: tuple[KernelCall, ...], plan: QuantPlan | None, report: ReportData | None = None
) -> Contents:
    return Contents(
        name=model.name, library=library, inputs=model.inputs, outputs=model.outputs, calls=calls, plan=plan, report=report,
        target=dict(spec.tvm), target_name=spec.name, arch=spec.arch, features=tuple(sorted(spec.features)),
    )  # fmt: skip
