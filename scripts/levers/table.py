"""The ablation's rows as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from tvm_rsq.benchmark import is_unstable
from tvm_rsq.layer_override import ACCUMULATE16
from tvm_rsq.plan import QuantPlan

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One build.

    times_us          of one call each, measured in turns with the other builds
    ratio             to the baseline's, within a turn
    agreement, kl     with FP32, on `source`;  layers: how many use what
    """

    variant: str
    times_us: tuple[float, ...]
    ratio: float
    agreement: float
    kl: float
    source: str
    layers: Mapping[str, int]


def used(plan: QuantPlan) -> dict[str, int]:
    """How many layers are per tensor, requantize by a shift or a fixed-point product, and sum in 16 bits."""
    found = {
        "per_tensor": sum(layer.scheme == "per_tensor" for layer in plan.layers),
        "shift": sum(layer.requantize == "shift" for layer in plan.layers),
        "fixed_point": sum(layer.requantize == "fixed_point" for layer in plan.layers),
        **{f"accumulate16={d}": sum(layer.accumulate16 == d for layer in plan.layers) for d in ACCUMULATE16 if d},
    }
    return {name: count for name, count in found.items() if count}


def markdown(rows: Sequence[Row], *, network: str, target: str, threads: int) -> str:
    """A table, and a line that says what was measured."""
    source = rows[0].source
    lines = [
        f"{network} on {target}, batch 1, {threads} thread{'s' if threads > 1 else ''}, median of {len(rows[0].times_us)} in turns; "
        f"fidelity to FP32 on {source}.",
        "",
        "| build | latency | of strongest per channel | KL | agreement | layers |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        layers = ", ".join(f"{name} {count}" for name, count in row.layers.items()) or "-"
        unstable = " (unstable)" if is_unstable(row.times_us) else ""
        time = f"{median(row.times_us) / 1000:.3f} ms{unstable}"
        lines.append(f"| {row.variant} | {time} | {row.ratio:.3f} | {row.kl:.4f} | {row.agreement:.1%} | {layers} |")
    return "\n".join(lines) + "\n"


def record(rows: Sequence[Row], facts: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values: {"schema", **facts, "rows": [...]}."""
    return {"schema": SCHEMA, **facts, "rows": [asdict(row) for row in rows]}
