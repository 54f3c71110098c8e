"""Figures that `tvm-rsq bench --json`, also on boards, and `evaluate --json` left behind, handed to the artifacts they were taken of.

A report is written when a network is compiled, before anything is measured; these files bring the measurements to it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tvm_rsq.errors import ConfigError
from tvm_rsq.report.data import DeviceRow, Fidelity, LatencyRow, LayerTime, ReportData
from tvm_rsq.report.measured_devices import later, rows_of
from tvm_rsq.report.serialise import device_row

_FLOAT = "FP32"  # what `bench --fp32` calls the build of the network as it was
_TYPES: Mapping[Any, Callable[[Any], Any]] = {
    "str": str, "int": int, "float": float, "float | None": float, "tuple[float, ...]": lambda times: tuple(map(float, times)),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of one artifact.

    latencies    its own row, called "quantized", and that of the FP32 build that ran in turns with it, where there was one
    turns        the file whose builds ran in turns: only latencies of one file can be compared; "": there is none
    layer_times  of its kernels, where they were profiled
    devices      its own rows on boards; beside: those of the baselines there
    """

    latencies: tuple[LatencyRow, ...] = ()
    turns: str = ""
    layer_times: tuple[LayerTime, ...] = ()
    fidelity: tuple[Fidelity, ...] = ()
    devices: tuple[DeviceRow, ...] = ()
    beside: tuple[DeviceRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file, and the digest of the library in it (`Contents.digest`)."""

    path: Path
    digest: str


def read_measured(files: Sequence[Path], artifacts: Sequence[Artifact]) -> tuple[Measured, ...]:
    """What `files` hold of each of `artifacts`, found by path or library; of two files that measured the same, the later counts.

    ConfigError: a file that cannot be read, that neither command wrote, of none of the artifacts, or of one that was compiled again.
    """
    found = [Measured() for _ in artifacts]
    for file in files:
        record = _record(file)
        read = next((read for (command, key), read in _READERS.items() if record.get("command") == command and key in record), None)
        if read is None:
            what = f"tvm-rsq {record['command']}" if record.get("command") else "another program"
            raise ConfigError(f"{file} was written by {what}, expected what `tvm-rsq bench` or `evaluate` of artifacts wrote with --json")
        try:
            held = [read(file, record, artifact, seen) for artifact, seen in zip(artifacts, found, strict=True)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = f"{type(error).__name__}: {error}"
            raise ConfigError(f"{file} cannot be read as measurements ({why}); measure again with --json") from error
        if not any(held):
            rows = record.get("builds") or record.get("rows") or [{"build": record.get("evaluated")}]
            names = dict.fromkeys(str(row["build"]) for row in rows)
            raise ConfigError(f"{file} measured {', '.join(names)}, none of the artifacts; name those, or leave it out")
        found = [new or seen for new, seen in zip(held, found, strict=True)]
    return tuple(found)


def adopt(report: ReportData, measured: Measured) -> ReportData:
    """`report` with what was measured since; of two figures of one thing, the measured one."""
    sets = {(entry.source, entry.samples) for entry in measured.fidelity}
    return replace(
        report, latencies=measured.latencies or report.latencies, layer_times=measured.layer_times or report.layer_times,
        devices=later((*measured.devices, *measured.beside), report.devices),
        fidelity=(*measured.fidelity, *(entry for entry in report.fidelity if (entry.source, entry.samples) not in sets)),
    )  # fmt: skip


def _record(file: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror or error}; expected what `tvm-rsq bench --json` wrote") from error
    except ValueError as error:
        raise ConfigError(f"{file} is not JSON ({error}); expected what `tvm-rsq bench` or `evaluate` wrote with --json") from error
    return record if isinstance(record, dict) else {}


def _of_bench(file: Path, record: Mapping[str, Any], artifact: Artifact, seen: Measured) -> Measured | None:
    rows = [LatencyRow(**_read(LatencyRow, row)) for row in record["builds"]]
    libraries = [str(made["library"]) for made in record["builds"]]
    named = [number for number, row in enumerate(rows) if _same(row.build, artifact.path)]
    own = next(iter((*named, *(number for number, library in enumerate(libraries) if library == artifact.digest))), None)
    if own is None:
        return None
    for row in rows:
        if not row.times_us or not all(0 < time < math.inf for time in row.times_us):
            raise ValueError(f"{row.build} has no times, or some that are none")
    if libraries[own] != artifact.digest:
        raise ConfigError(f"{file} measured another {artifact.path}, which was compiled again since; measure it again")
    profiled = own == 0 and record["layers"]
    times = tuple(LayerTime(**_read(LayerTime, entry)) for entry in record["layers"]) if profiled else seen.layer_times
    baselines = tuple(row for row in rows if row.build == _FLOAT)
    return replace(seen, latencies=(replace(rows[own], build="quantized"), *baselines), turns=str(file), layer_times=times)


def _of_evaluation(file: Path, record: Mapping[str, Any], artifact: Artifact, seen: Measured) -> Measured | None:
    if not _same(record["evaluated"], artifact.path):
        return None
    if record["sha256"] != hashlib.sha256(artifact.path.read_bytes()).hexdigest():
        raise ConfigError(f"{file} evaluated another {artifact.path}, which was compiled again since; evaluate it again")
    # JSON has neither NaN, the agreement of a network without classes, nor infinity, the divergence of outputs that are no numbers
    unwritten = {"agreement": math.nan, "kl": math.inf, "cosine": math.nan}
    entry = Fidelity(**{**_read(Fidelity, record), **{name: value for name, value in unwritten.items() if record[name] is None}})
    others = tuple(e for e in seen.fidelity if (e.source, e.samples) != (entry.source, entry.samples))
    return replace(seen, fidelity=(*others, entry))


def _of_devices(file: Path, record: Mapping[str, Any], artifact: Artifact, seen: Measured) -> Measured | None:
    own, beside = rows_of(file, [device_row(row) for row in record["rows"]], artifact.path, artifact.digest)
    return replace(seen, devices=later(own, seen.devices), beside=later(beside, seen.beside)) if own else None


_READERS: Mapping[tuple[str, str], Callable[[Path, Mapping[str, Any], Artifact, Measured], Measured | None]] = {
    ("bench", "builds"): _of_bench, ("bench", "rows"): _of_devices, ("evaluate", "evaluated"): _of_evaluation,
}  # fmt: skip
"""By the command that wrote the file, and a key that tells what of."""


def _same(name: str, artifact: Path) -> bool:
    return os.path.realpath(name) == os.path.realpath(artifact)


def _read(kind: type, record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `kind` that a record of JSON holds, as the types they are declared to be."""
    return {field.name: None if record[field.name] is None else _TYPES[field.type](record[field.name]) for field in fields(kind)}
