"""TuningTask: what a measured time, or another measure of cost, is that of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tvm_rsq.targets.host import host_cpu_model
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.tuning.kernels_version import kernels_version

TIME, MODELLED_CYCLES, INSTRUCTIONS = MEASURES = ("time", "modelled-cycles", "instructions")  # what says most first


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What measures kernels.

    cpu      its name: equal on machines whose figures can be compared
    measure  of MEASURES: what the figures are; times are microseconds
    threads  that kernels run on there unless something else is said; None: those of this process
    at_once  machines of this kind that can be used side by side
    """

    cpu: str
    measure: str = TIME
    threads: int | None = None
    at_once: int = 1


def this_machine() -> Machine:
    """The machine that this process runs on, by its clock."""
    return Machine(cpu=host_cpu_model())


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningTask:
    """One convolution on one machine. Equal tasks cost the same.

    workload  as `normalise` leaves it
    arch      architecture of the target
    features  its instruction sets, sorted
    mcpu      the CPU that LLVM schedules instructions for; "" where the target names none
    mattr     what the target switches on and off beside that, sorted
    cpu       model of the CPU that measures
    threads   that the kernel runs on
    kernels   version of the kernel templates and of how they are timed
    measure   what is measured, as of Machine: costs of different measures are never compared
    """

    workload: Conv2DWorkload
    arch: str
    features: tuple[str, ...]
    mcpu: str
    mattr: tuple[str, ...]
    cpu: str
    threads: int
    kernels: str
    measure: str = TIME

    def key(self) -> dict[str, Any]:
        """As JSON values, the form in which records hold it: without the measure where that is time, as in records of old."""
        found = json.loads(json.dumps(asdict(self)))
        if self.measure == TIME:
            del found["measure"]
        return found

    @property
    def identity(self) -> str:
        """The same as one deterministic text."""
        return identity(self.key())


def identity(key: Mapping[str, Any]) -> str:
    """One text for equal keys, whatever their order."""
    return json.dumps(key, sort_keys=True)


def tuning_task(spec: TargetSpec, workload: Conv2DWorkload, threads: int, machine: Machine | None = None) -> TuningTask:
    """The task of a workload on a machine, None for this one. Counts are those of one thread, whatever `threads` says."""
    machine = machine or this_machine()
    return TuningTask(
        workload=normalise(workload), arch=spec.arch, features=tuple(sorted(spec.features)), mcpu=str(spec.tvm.get("mcpu", "")),
        mattr=tuple(sorted(map(str, spec.tvm.get("mattr", ())))), cpu=machine.cpu, kernels=kernels_version(), measure=machine.measure,
        threads=threads if machine.measure == TIME else 1,
    )  # fmt: skip


def normalise(w: Conv2DWorkload) -> Conv2DWorkload:
    """The representative of all workloads that are as fast as `w`: constants become one of a kind, parts of a tensor the whole.

    Whether a bound is the type's own stays, since such a bound needs no instruction.
    """
    e = w.epilogue
    epilogue = replace(
        e, zero_point=0, residual_zero_point=0, qmin=min(e.qmin, 1), qmax=max(e.qmax, 254),
        low=e.low if e.low == float("-inf") else 0.0, high=e.high if e.high == float("inf") else 6.0,
    )  # fmt: skip
    return replace(w, input_zero_point=0, out_pitch=0, out_offset=0, epilogue=epilogue)


def describe(w: Conv2DWorkload) -> str:
    """The shape in a few characters: "3x3/2 56x56 64->128"."""
    kernel = "x".join(map(str, w.kernel)) + (f"/{w.stride[0]}" if w.stride != (1, 1) else "")
    groups = " depthwise" if w.is_depthwise else f" in {w.groups} groups" if w.groups > 1 else ""
    batch = f"{w.batch} x " if w.batch > 1 else ""
    return f"{kernel} {batch}{w.height}x{w.width} {w.in_channels}->{w.out_channels}{groups}"
