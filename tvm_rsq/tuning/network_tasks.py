"""The convolutions of a network as tuning tasks."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_rsq import pipeline
from tvm_rsq.model import Model
from tvm_rsq.passes.lower_movement import Evaluate
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.tuning.task import Machine, TuningTask, tuning_task
from tvm_rsq.tuning.tuned_library import RecordingLibrary


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTask:
    """A task and the layers of the network that it is the time of."""

    task: TuningTask
    layers: tuple[str, ...]


def network_tasks(
    model: Model, spec: TargetSpec, threads: int, evaluate: Evaluate, machine: Machine | None = None
) -> tuple[NetworkTask, ...]:
    """The tasks of a network in QDQ form, each once, in the order of its first layer.   machine: that measures, None for this one"""
    library = RecordingLibrary(spec.library)
    _, calls = pipeline.lower(model, library, evaluate)
    layers = [call.layer for call in calls if call.layer]
    found: dict[TuningTask, list[str]] = {}
    for workload, layer in zip(library.workloads, layers, strict=True):
        found.setdefault(tuning_task(spec, workload, threads, machine), []).append(layer)
    return tuple(NetworkTask(task=task, layers=tuple(names)) for task, names in found.items())
