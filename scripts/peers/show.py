"""Rows as a table, and what to distrust in them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rich.table import Table
from rich.text import Text

from scripts.peers.rows import AGREEMENT, COSINE, Row
from tvm_rsq.cli.show import table
from tvm_rsq.report import formats


def rows_table(rows: Sequence[Row]) -> Table:
    """Two lines a row: medians and their ratios, below 1 where ours is faster, and the ratios of times from the same turn."""
    return table(
        ("network", "batch", "threads", "ours", "untuned", "per channel", "fixed point", "ours fp32", "ort int8", "ov int8", "ort fp32",
         "ov fp32", "/ peer", "/ fp32", "/ per ch.", "/ fixed", "of peak", "top-1"),
        (line for row in rows for line in ([row.model, str(row.batch), str(row.threads), *_figures(row)], _paired(row))),
    )  # fmt: skip


def _figures(row: Row) -> list[str]:
    found = row.record()
    times = [found["ours_us"], found["untuned_us"], found["per_channel_us"], row.us("fixed_point"), found["fp32_us"]["ours"]]
    times += [
        found["peers_us"]["onnxruntime"],
        found["peers_us"]["openvino"],
        found["fp32_us"]["onnxruntime"],
        found["fp32_us"]["openvino"],
    ]
    ratios = [
        found["ratio_best_peer"], found["ratio_best_peer_fp32"], found["ratio_hybrid_per_channel"], found["ratio_hybrid_fixed_point"]
    ]  # fmt: skip
    return [
        *(formats.duration(time) for time in times), *map(_ratio, ratios),
        formats.percent(found["fraction_of_peak"]), formats.percent(found["top1_agreement"]),
    ]  # fmt: skip


def _paired(row: Row) -> list[str]:
    found = row.paired()
    ratios = [found["best_peer"], found["best_peer_fp32"], found["per_channel"], found["fixed_point"]]
    return ["  within a turn", *[""] * 11, *map(_ratio, ratios), "", ""]


def _ratio(value: float | None) -> str:
    return formats.MISSING if value is None else f"{value:.3f}"


def builds_table(row: Row) -> Table:
    """Every build of one row: with and without copies, and its answer."""
    return table(
        ("build", "median", "fastest", "no copies", "top-1 as FP32", "cosine", "KL", ""),
        (
            (
                name, formats.duration(median(found.times_us)), formats.duration(min(found.times_us)),
                formats.duration(median(found.bound_us) if found.bound_us else None),
                formats.percent(None if found.answer is None else found.answer.agreement),
                formats.MISSING if found.answer is None else f"{found.answer.cosine:.4f}",
                formats.MISSING if found.answer is None else f"{found.answer.kl:.4f}",
                Text("wrong" if found.is_wrong else "", "red"),
            )
            for name, found in row.builds.items()
        ),
        title=f"\n{row.model}, batch {row.batch}, {row.threads} threads, {row.target}",
    )  # fmt: skip


def warnings(rows: Sequence[Row]) -> list[str]:
    """One line for everything that makes a figure worth less."""
    lines = []
    for row in rows:
        where = f"{row.model}, batch {row.batch}, {row.threads} threads"
        if row.unstable:
            lines.append(f"{where}: times vary by more than 10 % for {', '.join(row.unstable)}; close other programs, or raise --repeat")
        if row.wrong:
            lines.append(
                f"{where}: {', '.join(row.wrong)} answer otherwise than their own FP32 (top-1 below {AGREEMENT:.0%} or cosine below "
                f"{COSINE}); such a latency is that of a wrong answer"
            )
        if (row.fraction_of_peak or 0) > 1:
            lines.append(
                f"{where}: {row.fraction_of_peak:.0%} of the peak is an effective speed: Winograd kernels multiply less than counted, "
                "or the peak was measured in a slow moment"
            )
    return lines
