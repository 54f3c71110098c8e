"""Inferences of a network by ONNX Runtime under the emulator, counted: what is executed inside its library, on one thread."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median_low

import numpy as np

from scripts.arm_counts.onnxruntime_library import guest_root, onnx_runner, onnxruntime_library
from scripts.emulator.boards import CPUS
from scripts.emulator.count_plugin import count_plugin
from scripts.emulator.toolchain import QEMU, EmulatorError
from tvm_rsq.remote.counts import InstructionCounts, parse

_CALLS = 6  # the first is left out
_ONE_THREAD = {"ORT_DISABLE_TELEMETRY": "1"}  # its thread would be counted too


def run_onnxruntime(network: Path, cpu: str, x: np.ndarray) -> tuple[InstructionCounts, np.ndarray, tuple[int, int]]:
    """(counts of the median call, output, fewest and most instructions of a call); the output is flat.

    Calls differ by some hundred-thousandths: where the allocator finds memory decides how much is searched.
    network   an ONNX file of one float32 input and output
    cpu       of boards.CPUS
    EmulatorError: it fails.
    """
    library, runner, plugin = onnxruntime_library(), onnx_runner(), count_plugin()
    with tempfile.TemporaryDirectory(prefix="tvm-rsq-") as made:
        folder = Path(made).resolve()
        source, result, counts = folder / "input", folder / "output", folder / "counts"
        source.write_bytes(np.ascontiguousarray(x, np.float32).tobytes())
        command = [
            QEMU, *plugin.options([library.name], counts), "-cpu", CPUS[cpu], "-L", str(guest_root(folder / "root", cpu)),
            str(runner), str(library), str(network), str(source), str(result), str(_CALLS),
        ]  # fmt: skip
        environment = {**os.environ, **plugin.environment(counts), **_ONE_THREAD}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise EmulatorError(f"ONNX Runtime ended with {done.returncode} on {cpu}: {last}")
        found = [parse(line) for line in done.stdout.splitlines()][1:]
        output = np.frombuffer(result.read_bytes(), np.float32)
    return median_call(found), output, (min(each.total for each in found), max(each.total for each in found))


def median_call(calls: Sequence[InstructionCounts]) -> InstructionCounts:
    """The call with the median number of instructions, the lower one of two."""
    middle = median_low(call.total for call in calls)
    return next(call for call in calls if call.total == middle)
