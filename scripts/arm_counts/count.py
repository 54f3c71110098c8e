"""The rows of one network: make its builds, run each on the emulated CPUs, check its answer, count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tvm import rpc

from scripts.arm_counts.boards import SESSION_S
from scripts.arm_counts.kernels import KernelCount, by_kernel
from scripts.arm_counts.onnx_files import onnx_files
from scripts.arm_counts.row import ONNXRUNTIME, Row
from scripts.arm_counts.run_onnxruntime import run_onnxruntime
from scripts.arm_counts.run_ours import run_ours
from scripts.emulator.boards import CPUS as EMULATED
from scripts.models.network import Network
from scripts.peers.build import PeerError
from scripts.peers.compare_builds import photos_for
from scripts.peers.ours import Ours
from scripts.peers.work_folder import WorkFolder
from tvm_rsq.progress import ProgressCallback, silent
from tvm_rsq.remote.counts import InstructionCounts
from tvm_rsq.remote.device import RemoteDevice
from tvm_rsq.remote.modelled_cycles import CycleModel
from tvm_rsq.targets.aarch64.pipeline_models import MODELS
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import TargetSpec

CPUS = tuple(cpu for cpu in EMULATED if cpu in MODELS)
_LEAST_COSINE = {"fp32": 0.9999}
_LEAST_INT8_COSINE = 0.9  # of any int8 build: below it, what was counted is not the network


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """cpus         of CPUS
    builds       of row.BUILDS
    calibration  of work_folder.SOURCES, for ours and ONNX Runtime alike; which it is hardly changes a count
    models       CPU -> its pipeline; None: no cycles
    levers_by    "instructions" or "modelled-cycles": what decides, on the board, what layers of the hybrid build are granted
    kernels      whether our builds' counts are split among kernels
    """

    cpus: Sequence[str]
    builds: Sequence[str]
    calibration: str
    folder: WorkFolder
    models: Mapping[str, CycleModel] | None
    kernels: bool = False
    levers_by: str = "instructions"
    progress: ProgressCallback = silent


def target_of(cpu: str) -> TargetSpec:
    """For one of CPUS."""
    return parse_target(f"llvm -mtriple=aarch64-linux-gnu -mcpu={cpu}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One build on one CPU; the fields as in Row."""

    counts: InstructionCounts
    output: np.ndarray
    variant: str = ""
    spread: tuple[int, int] | None = None
    tried: Mapping[str, int] = field(default_factory=dict)
    kernels: tuple[KernelCount, ...] = ()


def count_network(name: str, network: Network, address: tuple[str, int], settings: Settings) -> Iterator[Row]:
    """A row for each CPU and build, as soon as it is there.

    PeerError: a build whose answer is wrong, or none to compare with. tvm_rsq.Error, EmulatorError, FetchError as the parts raise them.
    """
    expected = _expected(name, network, settings.builds)
    calibration = settings.folder.calibration(name, network, settings.calibration, photos_for(network), settings.progress)
    x = np.ascontiguousarray(network.example_inputs[0].numpy())
    for cpu in settings.cpus:
        ours = Ours(
            model=name, network=network, batch=1, threads=1, spec=target_of(cpu), calibration=calibration, folder=settings.folder,
            device=RemoteDevice(tracker="{}:{}".format(*address), key=cpu, target=target_of(cpu), measure=settings.levers_by),  # type: ignore[arg-type]
            progress=settings.progress,
        )  # fmt: skip
        model = None if settings.models is None else settings.models[cpu]
        for build in sorted(settings.builds, key=lambda build: build != "fp32"):
            if build == ONNXRUNTIME:
                run = _run_onnxruntime(onnx_files(network, calibration.inputs[0], settings.folder.of(name)), cpu, x)
            else:
                module = ours.module(build)
                counts, output = run_ours(rpc.connect_tracker(*address).request(cpu, session_timeout=SESSION_S), module, x)
                kernels = by_kernel(counts, module.contents.library, model) if settings.kernels else ()
                run = _Run(counts=counts, output=output, kernels=kernels)
            if expected is None:
                expected = run.output
            yield Row(
                network=name, cpu=cpu, build=build, macs=ours.macs, kinds=run.counts.kinds,
                cycles=None if model is None else model.cycles(run.counts),
                cosine=check_answer(build, cpu, expected, run.output), variant=run.variant, spread=run.spread, tried=run.tried,
                kernels=run.kernels,
            )  # fmt: skip


def _expected(name: str, network: Network, builds: Sequence[str]) -> np.ndarray | None:
    """The torch module's output; None of a file, where our FP32 build answers first."""
    if isinstance(network.model, torch.nn.Module):
        with torch.inference_mode():
            return network.model(network.example_inputs[0]).numpy()
    if "fp32" not in builds:
        raise PeerError(f"{name} is the file {network.model}, whose answers are compared with our FP32 build's; add fp32 to --builds")
    return None


def _run_onnxruntime(files: Mapping[str, Path], cpu: str, x: np.ndarray) -> _Run:
    """Of all variants, the one that executes fewest instructions."""
    runs = {variant: run_onnxruntime(path, cpu, x) for variant, path in files.items()}
    best = min(runs, key=lambda variant: runs[variant][0].total)
    counts, output, spread = runs[best]
    tried = {variant: counts.total for variant, (counts, *_) in runs.items()}
    return _Run(counts=counts, output=output, variant=best, spread=spread, tried=tried)


def check_answer(build: str, cpu: str, expected: np.ndarray, output: np.ndarray) -> float:
    """The cosine of two outputs.   PeerError: it is no answer of this network."""
    a, b = (np.asarray(array, np.float64).ravel() for array in (expected, output))
    cosine = float(a @ b / np.sqrt((a @ a) * (b @ b)))
    least = _LEAST_COSINE.get(build, _LEAST_INT8_COSINE)
    if not cosine >= least:
        raise PeerError(f"{build} on {cpu}: its output's cosine to the network's is {cosine:.4f}, expected {least} or more; not counted")
    return cosine


