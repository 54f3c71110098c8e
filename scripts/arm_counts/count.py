"""The rows of one network: make its builds, run each on the emulated CPUs, check its answer, count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tvm import rpc

from scripts.arm_counts.boards import SESSION_S
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
    """

    cpus: Sequence[str]
    builds: Sequence[str]
    calibration: str
    folder: WorkFolder
    models: Mapping[str, CycleModel] | None
    progress: ProgressCallback = silent


def target_of(cpu: str) -> TargetSpec:
    """For one of CPUS."""
    return parse_target(f"llvm -mtriple=aarch64-linux-gnu -mcpu={cpu}")


def count_network(name: str, network: Network, tracker: rpc.TrackerSession, settings: Settings) -> Iterator[Row]:
    """A row for each CPU and build, as soon as it is there.

    PeerError: a build whose answer is wrong. tvm_rsq.Error, EmulatorError, FetchError as the parts raise them.
    """
    photos = photos_for(network)
    calibration = settings.folder.calibration(name, network, settings.calibration, photos, settings.progress)
    x = np.ascontiguousarray(network.example_inputs[0].numpy())
    expected: np.ndarray | None = None
    if isinstance(network.model, torch.nn.Module):
        with torch.inference_mode():
            expected = network.model(network.example_inputs[0]).numpy()
    for cpu in settings.cpus:
        ours = Ours(
            model=name, network=network, batch=1, threads=1, spec=target_of(cpu), calibration=calibration, folder=settings.folder,
            progress=settings.progress,
        )  # fmt: skip
        model = None if settings.models is None else settings.models[cpu]

        def row(build: str, found: InstructionCounts, output: np.ndarray, cpu=cpu, ours=ours, model=model, **more) -> Row:
            nonlocal expected
            if expected is None:
                expected = output  # of a network that is a file, whose first build is the FP32 one
            cycles = None if model is None else model.cycles(found)
            cosine = check_answer(build, cpu, expected, output)
            return Row(network=name, cpu=cpu, build=build, macs=ours.macs, kinds=found.kinds, cycles=cycles, cosine=cosine, **more)

        for build in sorted(settings.builds, key=lambda build: build != "fp32"):
            if build == ONNXRUNTIME:
                files = onnx_files(network, calibration.inputs[0], settings.folder.of(name))
                variants = {variant: run_onnxruntime(path, cpu, x) for variant, path in files.items()}
                variant = min(variants, key=lambda variant: variants[variant][0].total)
                found, output, spread = variants[variant]
                yield row(build, found, output, variant=variant, spread=spread)
            else:
                yield row(build, *run_ours(tracker.request(cpu, session_timeout=SESSION_S), ours.module(build), x))


def check_answer(build: str, cpu: str, expected: np.ndarray, output: np.ndarray) -> float:
    """The cosine of two outputs.   PeerError: it is no answer of this network."""
    a, b = (np.asarray(array, np.float64).ravel() for array in (expected, output))
    cosine = float(a @ b / np.sqrt((a @ a) * (b @ b)))
    least = _LEAST_COSINE.get(build, _LEAST_INT8_COSINE)
    if not cosine >= least:
        raise PeerError(f"{build} on {cpu}: its output's cosine to the network's is {cosine:.4f}, expected {least} or more; not counted")
    return cosine


