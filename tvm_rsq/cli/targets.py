"""`tvm-rsq targets`: what can be compiled for."""

from __future__ import annotations

from rich.text import Text

from tvm_rsq.cli.session import Session
from tvm_rsq.cli.show import table


def targets(session: Session) -> None:
    """List the presets, and this machine's CPU as it was detected."""
    from tvm_rsq.targets.parse import parse_target
    from tvm_rsq.targets.presets import PRESETS
    from tvm_rsq.targets.spec import host_supports

    here = parse_target("llvm")
    specs = {name: parse_target(name) for name in PRESETS}
    lacking = {name: host_supports(spec) for name, spec in specs.items()}
    session.result(
        {
            "host": {"target": dict(here.tvm), "features": sorted(here.features), "num_cores": here.num_cores},
            "presets": [
                {
                    "name": name,
                    "target": dict(spec.tvm),
                    "features": sorted(spec.features),
                    "runs_here": not lacking[name],
                    "lacking": lacking[name],
                }
                for name, spec in specs.items()
            ],
        },
        Text(f"llvm: this machine, {here.tvm.get('mcpu', '')} ({here.triple}), {here.num_cores} cores"),
        Text(f"      {' '.join(sorted(here.features))}", "dim"),
        Text(),
        table(
            ("preset", "architecture", "cpu", "runs here"),
            (
                (
                    name,
                    spec.arch,
                    str(spec.tvm.get("mcpu", "")),
                    "yes" if not lacking[name] else f"no, lacks {', '.join(lacking[name][:4])}",
                )
                for name, spec in specs.items()
            ),
            left=4,
        ),
        Text(),
        Text("Any other CPU: --target 'llvm -mtriple=... -mcpu=... -mattr=+...,-...'"),
    )
