"""Rows as a table, for the terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from scripts.arm_counts.row import ONNXRUNTIME, Row
from tvm_rsq.cli.show import table
from tvm_rsq.report import formats

_MISSING = "-"
COLUMNS = (
    "network", "CPU", "build", "instructions, M", "/ fp32", "/ onnxruntime", "/ per channel", "dot / (MACs/16)", "modelled cycles, M",
    "/ fp32", "/ onnxruntime", "/ per channel", "cosine",
)  # fmt: skip
_COMPARED_WITH = ("fp32", ONNXRUNTIME, "per_channel")


def rows_table(rows: Sequence[Row]) -> Table:
    return table(COLUMNS, lines(rows), left=3)


def kernels_table(row: Row) -> Table:
    """The kernels of one row, with their shares of its instructions and cycles."""
    columns = ("kernel", "instructions, M", "share", "modelled cycles, M", "share")
    lines = ((kernel.name, *_part(kernel.instructions, row.instructions), *_part(kernel.cycles, row.cycles)) for kernel in row.kernels)
    return table(columns, lines, title=f"{row.network}, {row.cpu}, {row.build}")


def page(facts: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Markdown.   facts: "command", "date", "versions" """
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    text = [
        "# Instructions of one inference on aarch64, counted",
        "",
        "Made by",
        "",
        "<!-- not run: half an hour of emulation -->",
        "```bash",
        str(facts["command"]),
        "```",
        "",
        f"- {facts['date']}; {versions}; ranges of activations from {facts['calibration']}.",
        "- One inference at batch 1 on one thread, under QEMU's user emulation of the CPU named. Counted is what is executed inside the",
        "  network's own library (of ONNX Runtime: inside libonnxruntime.so), and nothing of the C library, of TVM's virtual machine or of",
        "  loading. Our counts are the same in every call; ONNX Runtime's is the median of five.",
        "- onnxruntime is int8 (QDQ, weights per channel) in the variant that executes fewest instructions, named in brackets. fp32 is our",
        "  own float build for the same CPU, per_channel the strongest build with all layers per channel.",
        "- dot / (MACs/16) is 1 where every multiply-accumulate is one of a dot product's 16; smmla, of 32, counts as two.",
        "- Modelled cycles are counts times what llvm-mca says of each block's pipeline. They hold no caches and no mispredicted branches,",
        "  rank builds on one CPU, and are no latency. Which core's description stands for a CPU: targets/aarch64/pipeline_models.py.",
        "- Ratios below 1 are fewer than the build that they are named after. Cosine is that of the output to the float network's.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "|".join([" --- "] * 3 + [" ---: "] * (len(COLUMNS) - 3)) + "|",
        *("| " + " | ".join(line) + " |" for line in lines(rows)),
        "",
    ]
    return "\n".join(text)


def lines(rows: Sequence[Row]) -> Iterator[list[str]]:
    """The cells of each row, in the order of COLUMNS."""
    found = {(row.network, row.cpu, row.build): row for row in rows}
    for row in rows:
        others = [found.get((row.network, row.cpu, build)) for build in _COMPARED_WITH]
        yield [
            row.network,
            row.cpu,
            f"{row.build} ({row.variant})" if row.variant else row.build,
            _millions(row.instructions),
            *(_ratio(row.instructions, None if other is None or other is row else other.instructions) for other in others),
            f"{row.dot_share:.3f}",
            _millions(row.cycles),
            *(_ratio(row.cycles, None if other is None or other is row else other.cycles) for other in others),
            f"{row.cosine:.4f}",
        ]


def _millions(value: float | None) -> str:
    return _MISSING if value is None else f"{value / 1e6:.2f}"


def _part(value: float | None, whole: float | None) -> tuple[str, str]:
    return _millions(value), _MISSING if value is None or not whole else formats.percent(value / whole)


def _ratio(value: float | None, other: float | None) -> str:
    return _MISSING if value is None or not other else f"{value / other:.3f}"
