"""Text and tables for the terminal. What comes from a network is shown as plain text: no rich markup, no control characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from tvm_rsq.report import formats

if TYPE_CHECKING:
    from tvm_rsq.plan import LayerPlan, QuantPlan

STYLES = {"per_tensor": "blue", "per_channel": "yellow", "float": "magenta"}


def printable(text: str) -> str:
    """`text` on one line, control characters (terminal escapes among them) replaced."""
    return "".join(c if c.isprintable() else " " if c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, left: int = 1, title: str | None = None) -> Table:
    """A plain table: the first `left` columns are text, the others numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        made.add_column(column, justify="left" if i < left else "right", overflow="fold" if i == 0 else "ellipsis", no_wrap=i > 0)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    return made


def layer_table(layers: Sequence[LayerPlan]) -> Table:
    """Layer, op, scheme, bits, scale, divergences, error, size and reason: what each layer became and why."""
    made = table(
        ("layer", "op", "scheme", "bits", "scale", "KL per tensor", "KL per channel", "weight error", "weights", "reason"),
        (
            (
                layer.name, layer.op, Text(layer.scheme.replace("_", "-"), STYLES[layer.scheme]),
                "32" if layer.scheme == "float" else str(layer.weight_bits), formats.scales(layer.weight_scale),
                formats.nats(layer.kl_per_tensor), formats.nats(layer.kl_per_channel), formats.nats(layer.weight_nmse),
                formats.size(layer.weight_bytes), layer.reason,
            )
            for layer in layers
        ),
        left=3,
    )  # fmt: skip
    made.columns[-1].justify = "left"
    return made


def plan_summary(plan: QuantPlan) -> Text:
    """One line: how many layers of each scheme, and what stays in float."""
    counts = {scheme: sum(layer.scheme == scheme for layer in plan.layers) for scheme in STYLES}
    parts = [f"{count} {scheme.replace('_', '-')}" for scheme, count in counts.items() if count]
    text = Text(f"{len(plan.layers)} layers: {', '.join(parts)}")
    if plan.float_islands:
        text.append(f"; in float: {', '.join(printable(i.name) for i in plan.float_islands)}")
    return text
