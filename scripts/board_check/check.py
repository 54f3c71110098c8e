"""One network on every board: quantized once, compiled for each, held to what the same plan computes on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scripts.arm_counts.boards import SESSION_S
from scripts.board_check.compare import Computed, difference, here
from scripts.board_check.row import Row
from scripts.board_check.subject import Subject
from tvm_rsq.compiled_module import CompiledModule
from tvm_rsq.compiler import compile_exposed, compile_quantized
from tvm_rsq.errors import Error
from tvm_rsq.progress import Progress, ProgressCallback
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.remote.board_session import open_session
from tvm_rsq.remote.device import RemoteDevice
from tvm_rsq.remote.remote_network import RemoteNetwork

# Key of a board -> what is compiled for it. QEMU's max has i8mm, as this CPU has; how long its SVE vectors are changes no result.
TARGETS: Mapping[str, str] = {"cortex-a72": "cortex-a72", "cortex-a76": "cortex-a76", "max": "neoverse-n2"}
GAIN = 3.0  # of the last input: its values are beyond what was calibrated


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """boards      of TARGETS
    address     of the tracker that they are registered at
    most_gmacs  networks of so many also show every stored tensor; larger ones where an output differs
    """

    boards: Sequence[str]
    address: tuple[str, int]
    most_gmacs: float
    progress: ProgressCallback


def check(subject: Subject, settings: Settings) -> Iterator[Row]:
    """A row for each board, as soon as it is there; what cannot be quantized, compiled or run is wrong, with the reason.

    FetchError: the network is not cached.
    """
    rows = [Row(network=subject.network, way=subject.way, board=board, target=TARGETS[board]) for board in settings.boards]
    try:
        case = _Case(subject, subject.quantize(settings.progress), settings)
    except (Error, RuntimeError) as error:  # TVM raises RuntimeError
        yield from (replace(row, wrong=_one_line(error)) for row in rows)
        return
    for row in rows:
        try:
            yield case.row(row)
        except (Error, RuntimeError) as error:
            yield replace(row, wrong=_one_line(error))


class _Case:
    """A quantized network, its inputs, and what this machine computes of them: exposed or not -> one for each input."""

    def __init__(self, subject: Subject, quantized: QuantizedModel, settings: Settings) -> None:
        self._subject, self._quantized, self._settings = subject, quantized, settings
        self._inputs = inputs_of(quantized)
        self._expected: dict[bool, list[Computed]] = {}

    def row(self, row: Row) -> Row:
        plan = self._quantized.plan
        macs = sum(layer.macs for layer in plan.layers)
        row = replace(row, macs=macs, islands=tuple(sorted({island.op for island in plan.float_islands})), inputs=len(self._inputs))
        wrong, expected = self._wrong(row, exposed=False)
        row = replace(row, wrong=wrong, outputs=sum(part.size for computed in expected for part in computed.outputs))
        if wrong is None and macs > self._settings.most_gmacs * 1e9:
            return row
        by_tensor, expected = self._wrong(row, exposed=True)
        return replace(
            row, wrong=by_tensor or wrong, tensors=len(plan.tensors), levels=sum(computed.levels for computed in expected),
            saturated=expected[-1].saturated(plan),
        )  # fmt: skip

    def _wrong(self, row: Row, *, exposed: bool) -> tuple[str | None, list[Computed]]:
        """What differs first on the board, and what was expected."""
        if exposed not in self._expected:
            module = self._compile("llvm", exposed=exposed)
            self._expected[exposed] = [here(module, x, exposed=exposed) for x in self._inputs]
        expected = self._expected[exposed]
        module = self._compile(row.target, exposed=exposed)
        self._tell(f"{row.network} on {row.board}")
        tracker = "{}:{}".format(*self._settings.address)
        device = RemoteDevice(tracker=tracker, key=row.board, target=row.target, session_timeout_s=SESSION_S)
        with open_session(device, self._tell) as session:
            network = RemoteNetwork(session, module.contents)
            for i, (x, known) in enumerate(zip(self._inputs, expected, strict=True)):
                wrong = difference(Computed.of(network.run(*x), self._quantized.plan, exposed=exposed), known)
                if wrong is not None:
                    return f"input {i}: {wrong}", expected
        return None, expected

    def _compile(self, target: str, *, exposed: bool) -> CompiledModule:
        spec = self._subject.spec(target)
        return compile_exposed(self._quantized, spec) if exposed else compile_quantized(self._quantized, spec)

    def _tell(self, what: str) -> None:
        self._settings.progress(Progress(stage="board", done=0, total=1, detail=what))


def inputs_of(quantized: QuantizedModel) -> list[tuple[np.ndarray, ...]]:
    """Two samples of what the network was calibrated on, the second GAIN times as large."""
    samples = quantized.calibration.inputs
    batch = quantized.model.inputs[0].shape[0]
    first = tuple(array[:batch] for array in samples)
    last = tuple(array[-batch:] * np.float32(GAIN) for array in samples)
    return [tuple(np.ascontiguousarray(array, np.float32) for array in x) for x in (first, last)]


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    return f"{type(error).__name__}: {lines[-1]}"
