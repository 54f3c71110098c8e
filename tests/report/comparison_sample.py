"""Made-up builds to compare: two plans of one network, one of them short of a layer, and an FP32 build."""

from __future__ import annotations

from dataclasses import replace

from tests.report.report_sample import HOSTILE, report_data
from tvm_rsq.report.comparison import Build

FLOAT = Build(label="fp32", network="mobilenetv2", target="llvm", file_bytes=13_000_000, report=None)


def build(label: str, *, layers: int = 12, seed: int = 0, target: str = "llvm", **changes: object) -> Build:
    """Names and schemes are those of report_sample.plan: the former the same for every seed, the latter not."""
    data = replace(report_data(layers, seed), target=target, **changes)
    return Build(label=label, network=data.network, target=target, file_bytes=3_900_000 + seed, report=data)


def without(made: Build, index: int) -> Build:
    """The same build without its layer number `index`, from 0."""
    plan = made.report.plan
    return replace(made, report=replace(made.report, plan=replace(plan, layers=plan.layers[:index] + plan.layers[index + 1 :])))


def three(layers: int = 12) -> tuple[Build, Build, Build]:
    """Two that differ, the second of them with hostile words wherever a word is free, and FP32."""
    odd = build(f"b/{HOSTILE}", layers=layers, seed=1, target="cortex-<a72>", notes=(HOSTILE,), facts={HOSTILE: HOSTILE})
    return build("a", layers=layers), without(odd, 5), FLOAT
