"""`tvm-rsq bench --device`: builds of a network on boards over RPC, checked and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer
from rich.text import Text

from tvm_rsq.cli.device_tables import device_table
from tvm_rsq.cli.invocation import command_line
from tvm_rsq.cli.model_argument import Network
from tvm_rsq.cli.session import Session

if TYPE_CHECKING:
    from tvm_rsq.config import QuantConfig
    from tvm_rsq.remote.device import RemoteDevice


def bench_devices(
    session: Session, sources: Mapping[str, Network | None], devices: Sequence[RemoteDevice], config: QuantConfig, *,
    names: Sequence[str], plan: Literal["one", "each"], data: object, batch: int | None, tuning: Path | None, repeat: int, warmup: int,
    report: Path | None,
) -> None:  # fmt: skip
    """sources: one network, or artifacts (None); the other arguments are those of `bench`."""
    if len(sources) > 1 and any(sources.values()):
        raise typer.BadParameter(f"--device takes one network, or artifacts of one; got {', '.join(sources)}")
    import tvm_rsq
    from tvm_rsq.artifact import load
    from tvm_rsq.remote.artifact_builds import ArtifactBuilds
    from tvm_rsq.remote.device_builds import NetworkBuilds
    from tvm_rsq.remote.fleet import bench_fleet, check_registered
    from tvm_rsq.remote.row_file import RowFile

    file = RowFile(session.json_path)
    check_registered(devices)
    (name, network), *_ = sources.items()
    with session.progress() as progress:
        builds: ArtifactBuilds | NetworkBuilds
        if network is None:
            builds = ArtifactBuilds({each: load(each, to_run=False) for each in sources})
        else:
            builds = NetworkBuilds(
                model=network.model, config=config, names=names, plan=plan, progress=progress.event,
                arguments={"example_inputs": network.example_inputs, "calibration": data, "batch": batch},
                tuning=None if tuning is None else tvm_rsq.TuneConfig(trials=0, work_dir=tuning),
            )  # fmt: skip
        found = bench_fleet(
            builds, devices, file, calibration=lambda: getattr(builds, "calibration", None), repeat=repeat, warmup=warmup, seed=config.seed,
            progress=progress.event,
        )  # fmt: skip
    data_of_page = getattr(builds, "report", None)  # there is none of artifacts, nor before a board was reached
    if not found.rows or data_of_page is None:
        report = None
    elif report is not None:
        from tvm_rsq.report import page

        page.write(replace(data_of_page, devices=found.rows, facts={**data_of_page.facts, "command": command_line()}), report)
    emulated = sorted({row.device for row in found.rows if row.measure != "time"})
    notes = [f"emulated boards, whose counts and modelled cycles are no latency: {', '.join(emulated)}"] if emulated else []
    session.result(
        {**file.record(), "failed": found.failed, "report": None if report is None else str(report)},
        *([device_table(found.rows)] if found.rows else []),
        *map(Text, notes),
    )
    wrong = {f"{row.device} {row.build}": row.error for row in found.rows if row.error is not None and row.device not in found.failed}
    if problems := {**found.failed, **wrong}:
        by_reason: dict[str, list[str]] = {}
        for what, why in problems.items():
            by_reason.setdefault(why, []).append(what)
        session.fail("; ".join(f"{', '.join(what)}: {why}" for why, what in by_reason.items()))
