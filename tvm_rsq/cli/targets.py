"""`tvm-rsq targets`: what can be compiled for."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from tvm_rsq.cli.session import Session
from tvm_rsq.cli.show import table
from tvm_rsq.report import formats

if TYPE_CHECKING:
    from tvm_rsq.targets.spec import TargetSpec


def targets(session: Session) -> None:
    """List the presets, what their CPUs have, whether this machine can link for them, and its own CPU as it was detected."""
    from tvm_rsq.targets.parse import parse_target
    from tvm_rsq.targets.presets import GROUPS

    here = parse_target("llvm")
    records = [_record(title, name, parse_target(name)) for title, group in GROUPS.items() for name in group]
    linkers = {record["architecture"]: record["linker"] for record in records}
    problems = {record["architecture"]: record["no_linker"] for record in records if record["no_linker"]}
    tables: list[list[RenderableType]] = [
        [
            table(
                (title, "also", "cores", "cpu", "features", "here"),
                (_row(record) for record in records if record["group"] == title),
                left=6,
            ),
            Text(),
        ]
        for title in GROUPS
    ]
    session.result(
        {
            "host": {"target": dict(here.tvm), "features": sorted(here.features), "num_cores": here.num_cores},
            "presets": records,
        },
        Text(f"llvm: this machine, {here.tvm.get('mcpu', '')} ({here.triple}), {here.num_cores} cores"),
        Text(f"      {' '.join(sorted(here.features))}", "dim"),
        Text(),
        *itertools.chain(*tables),
        *(Text(f"{arch} is linked by {linker}") for arch, linker in linkers.items() if linker),
        *(Text(problem, "yellow") for problem in problems.values()),
        Text("Any other CPU: --target 'llvm -mtriple=... -mcpu=... -mattr=+...,-...'"),
    )


def _record(group: str, name: str, spec: TargetSpec) -> dict[str, Any]:
    from tvm_rsq.errors import TargetError
    from tvm_rsq.targets.linker import find_linker
    from tvm_rsq.targets.presets import aliases_of, features_that_matter
    from tvm_rsq.targets.spec import host_supports

    try:
        linker, problem = find_linker(spec).name, None
    except TargetError as error:
        linker, problem = None, str(error)
    lacking = host_supports(spec)
    return {
        "name": name, "aliases": aliases_of(name), "group": group, "architecture": spec.arch, "target": dict(spec.tvm),
        "num_cores": spec.tvm.get("num-cores"), "features": sorted(spec.features),
        "features_that_matter": features_that_matter(spec.arch, spec.features), "runs_here": not lacking, "lacking": lacking,
        "linker": linker, "no_linker": problem,
    }  # fmt: skip


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    here = [word for word, is_so in (("links", record["linker"]), ("runs", record["runs_here"])) if is_so]
    processor = record["target"].get("mcpu") or record["target"].get("arch", "")
    return (
        str(record["name"]), " ".join(record["aliases"]), str(record["num_cores"] or formats.MISSING),
        str(processor), " ".join(record["features_that_matter"]), ", ".join(here) or "no linker",
    )  # fmt: skip
