"""What is measured on a board, and by what."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from tvm_rsq.errors import DeviceError, TargetError
from tvm_rsq.remote.counts import InstructionCounts
from tvm_rsq.remote.device import RemoteDevice
from tvm_rsq.remote.modelled_cycles import CycleModel
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.presets import features_that_matter
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.tuning.task import INSTRUCTIONS, MODELLED_CYCLES, TIME

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measuring:
    """measure: of tuning.task.MEASURES; cycles: of counted instructions, None where nothing models them"""

    measure: str
    cycles: Callable[[InstructionCounts], float] | None = None

    def cost(self, counts: InstructionCounts) -> float:
        """What stands for a time, of a call that was counted."""
        return float(counts.total) if self.measure == INSTRUCTIONS or self.cycles is None else self.cycles(counts)


def measuring(device: RemoteDevice, spec: TargetSpec, emulated: bool) -> Measuring:
    """How to measure on a board of `device` that says whether it is emulated.

    DeviceError: time of an emulated board, or counts of a real one. TargetError: modelled cycles that nothing can model here.
    """
    if not emulated:
        if device.measure in (INSTRUCTIONS, MODELLED_CYCLES):
            raise DeviceError(f"board {device.key} counts no {device.measure.replace('-', ' ')}: only emulated ones do; measure time there")
        return Measuring(TIME)
    if device.measure == TIME:
        todo = "measure instructions or modelled-cycles"
        raise DeviceError(f"board {device.key} is emulated: how long it takes says nothing of a real one; {todo}")
    try:
        model = _cycle_model(spec)
    except TargetError as error:
        if device.measure == MODELLED_CYCLES:
            raise
        log.info("%s: instructions are counted, and no cycles modelled (%s)", device.key, error)
        return Measuring(INSTRUCTIONS)
    return Measuring(INSTRUCTIONS if device.measure == INSTRUCTIONS else MODELLED_CYCLES, model.cycles)


def _cycle_model(spec: TargetSpec) -> CycleModel:
    """TargetError: nothing models the CPU, or what does lacks instructions that are compiled for it."""
    found = CycleModel.of(str(spec.tvm.get("mcpu", "")))
    described = parse_target({"kind": "llvm", "mtriple": spec.triple, "mcpu": found.model.described})
    if lacking := features_that_matter(spec.arch, spec.features - described.features):
        raise TargetError(
            f"no cycles can be modelled for {spec.name}: the model of {found.model.described} has no {', '.join(lacking)}; "
            "name a CPU that has it, such as neoverse-n2"
        )
    return found
