"""What `tvm-rsq bench --device --json` found on boards, handed to the artifacts whose libraries ran there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tvm_rsq.errors import ConfigError
from tvm_rsq.report.data import DeviceRow

BASELINES = ("FP32", "per-channel")  # what `bench --device` calls the builds that others are compared with


def rows_of(file: Path, rows: Sequence[DeviceRow], artifact: Path, digest: str) -> tuple[tuple[DeviceRow, ...], tuple[DeviceRow, ...]]:
    """The rows of the library with this digest, wherever it ran, and those of the baselines beside it.

    ConfigError: a row has the artifact's name and another library's digest, since it was compiled again.
    """
    own = tuple(row for row in rows if row.artifact == digest)
    if any(os.path.realpath(row.build) == os.path.realpath(artifact) for row in rows if row.artifact != digest):
        raise ConfigError(f"{file} measured another {artifact}, which was compiled again since; measure it again")
    groups = {_group(row) for row in own}
    beside = tuple(row for row in rows if row.artifact != digest and row.build in BASELINES and _group(row) in groups)
    return own, beside


def later(rows: Sequence[DeviceRow], seen: Sequence[DeviceRow]) -> tuple[DeviceRow, ...]:
    """`rows`, and those of `seen` that measured something else."""
    known = {(*_group(row), row.build) for row in rows}
    return (*(row for row in seen if (*_group(row), row.build) not in known), *rows)


def _group(row: DeviceRow) -> tuple[str, str, str, str]:
    """Rows of one can be compared: the boards and the measure are the same."""
    return row.network, row.device, row.target, row.measure
