"""A benchmark of several devices: one after another, whatever becomes of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tvm_rsq.benchmark import random_inputs
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.errors import ArtifactError, DeviceError, TargetError
from tvm_rsq.model import InputSpec
from tvm_rsq.progress import ProgressCallback
from tvm_rsq.remote.address import parse_address
from tvm_rsq.remote.bench_device import DeviceBench, Inputs
from tvm_rsq.remote.device import RemoteDevice
from tvm_rsq.remote.device_builds import DeviceBuild
from tvm_rsq.remote.devices import list_devices
from tvm_rsq.remote.request_board import NoBoard
from tvm_rsq.remote.row_file import RowFile
from tvm_rsq.report.data import DeviceRow


class Builds(Protocol):
    """What is to be measured on a device."""

    def of(self, device: RemoteDevice) -> list[DeviceBuild]: ...


@dataclass(frozen=True, kw_only=True)
class FleetResult:
    """rows: of every device that was reached; failed: key -> why the others, or their last builds, are missing"""

    rows: tuple[DeviceRow, ...]
    failed: Mapping[str, str]


def bench_fleet(
    builds: Builds, devices: Sequence[RemoteDevice], file: RowFile, *, calibration: Callable[[], CalibrationSet | None], repeat: int,
    warmup: int, seed: int, progress: ProgressCallback,
) -> FleetResult:  # fmt: skip
    """Check and measure the builds of every device; one that fails, or that nothing can be built for, is left out, and the others go on.

    calibration  data of the network that answers are checked on too, beside noise; asked for once there are builds
    Errors that are no device's, of the network or the configuration, end it.
    """
    rows: list[DeviceRow] = []
    failed: dict[str, str] = {}
    for device in devices:
        kept: list[DeviceRow] = []

        def keep(row: DeviceRow, kept: list[DeviceRow] = kept) -> None:
            file.keep(row)
            kept.append(row)

        try:
            made = builds.of(device)
            bench = DeviceBench(
                device=device, samples=_samples(made[0].contents.inputs, calibration(), seed), repeat=repeat, warmup=warmup,
                known=lambda row: file.known(row, repeat), keep=keep, progress=progress,
            )  # fmt: skip
            rows += bench.run(made)
        except (ArtifactError, DeviceError, TargetError) as error:
            failed[device.key] = str(error)
            rows += kept
    return FleetResult(rows=tuple(rows), failed=failed)


def check_registered(devices: Sequence[RemoteDevice]) -> None:
    """Before the long work: DeviceError: no tracker, or no board of a key is registered: it may be mistyped."""
    for device in devices:
        tracker = parse_address(device.tracker)
        found = [each.key for each in list_devices(tracker) if each.total]
        if device.key not in found:
            raise NoBoard.of(tracker, device.key, found)


def _samples(specs: Sequence[InputSpec], calibration: CalibrationSet | None, seed: int) -> list[Inputs]:
    samples = [random_inputs(specs, seed)]
    if calibration is not None:
        samples.append(tuple(
            np.resize(array, spec.shape).astype(spec.dtype, copy=False) for array, spec in zip(calibration.inputs, specs, strict=True)
        ))  # fmt: skip
    return samples
