"""Text and tables for the terminal. What comes from a network is shown as plain text: no rich markup, no control characters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tvm_rsq.report import formats

if TYPE_CHECKING:
    from tvm_rsq.layer_record import LayerPlan
    from tvm_rsq.plan import QuantPlan

STYLES = {"per_tensor": "blue", "per_channel": "yellow", "float": "magenta"}
# Characters of a name that are shown whatever the width of the terminal; rich takes as much from every column, and drops what is left with
# none.
_LEAST_NAME_WIDTH, _NAME_WIDTH = 16, 40


def printable(text: str) -> str:
    """`text` on one line, control characters (terminal escapes among them) replaced."""
    return "".join(c if c.isprintable() else " " if c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, left: int = 1, title: str | None = None) -> Table:
    """A plain table: the first `left` columns are text, the others numbers. Names, in the first, are the last to be squeezed."""
    cells = [[cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row] for row in rows]
    longest = max((cell.cell_len for row in cells for cell in row[:1]), default=0)
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        made.add_column(
            column, justify="left" if i < left else "right", overflow="ellipsis", no_wrap=True,
            min_width=min(_NAME_WIDTH, max(longest, _LEAST_NAME_WIDTH)) if i == 0 else None,
        )  # fmt: skip
    for row in cells:
        made.add_row(*row)
    return made


def layer_table(layers: Sequence[LayerPlan], measure: str = "time") -> Table:
    """Layer, op, scheme, bits, scale, divergences, error, size and reason: what each layer became and why.

    Where any layer uses a lever or was timed, also how it requantizes, its accumulate16 and its time, or what `measure` is instead.
    """
    levers = any(layer.requantize != "float" or layer.accumulate16 or layer.time_us is not None for layer in layers)
    columns: list[tuple[str, Callable[[LayerPlan], str | Text]]] = [
        ("layer", lambda layer: layer.name),
        ("op", lambda layer: layer.op),
        ("scheme", lambda layer: Text(layer.scheme.replace("_", "-"), STYLES[layer.scheme])),
        ("bits", _bits),
        ("scale", lambda layer: formats.scales(layer.weight_scale)),
        ("KL per tensor", lambda layer: formats.nats(layer.kl_per_tensor)),
        ("KL per channel", lambda layer: formats.nats(layer.kl_per_channel)),
        ("weight error", lambda layer: formats.nats(layer.weight_nmse)),
        ("weights", lambda layer: formats.size(layer.weight_bytes)),
        *([
            ("requantize", lambda layer: layer.requantize.replace("_", "-")),
            ("accumulate16", lambda layer: str(layer.accumulate16 or formats.MISSING)),
            (measure.replace("-", " "), lambda layer: formats.cost_figure(layer.time_us, measure)),
        ] if levers else []),
        ("reason", lambda layer: layer.reason),
    ]  # fmt: skip
    made = table([name for name, _ in columns], ([cell(layer) for _, cell in columns] for layer in layers), left=3)
    made.columns[-1].justify = "left"
    return made


def _bits(layer: LayerPlan) -> str:
    if layer.scheme == "float" and not layer.codebook:
        return "32"
    return f"{layer.weight_bits}, book" if layer.codebook else str(layer.weight_bits)


def frontier_table(plan: QuantPlan) -> list[RenderableType]:
    """An empty line and the latency that every budget buys, of a plan that was made for a target; nothing for other plans."""
    points = plan.provenance.get("frontier", ())
    if not points:
        return []
    base, measure = points[0]["time_us"], plan.provenance.get("measure", "time")
    rows = (
        (
            "none" if i == 0 else formats.percent(point["budget"], 0), formats.cost_figure(point["time_us"], measure),
            f"{point['time_us'] / base:.3f}", formats.nats(point["excess"]), formats.nats(point["kl"]),
        )
        for i, point in enumerate(points)
    )  # fmt: skip
    target = printable(str(plan.provenance.get("target", "")))
    title = f"layers' kernels on {target}, by budget (this plan: {plan.provenance['budget']:.0%})"
    what = "latency" if measure == "time" else measure.replace("-", " ")
    columns = ("budget", what, "of per channel", "KL added, layer by layer", "KL of the whole")
    return [Text(), table(columns, rows, title=title)]


def plan_summary(plan: QuantPlan) -> Text:
    """One line: how many layers of each scheme, the mean bits of a weight below 8, and what stays in float."""
    counts = {scheme: sum(layer.scheme == scheme for layer in plan.layers) for scheme in STYLES}
    parts = [f"{count} {scheme.replace('_', '-')}" for scheme, count in counts.items() if count]
    text = Text(f"{len(plan.layers)} layers: {', '.join(parts)}")
    sizes = [(layer.weight_bytes, layer.weight_bytes * 8 / layer.weight_bits) for layer in plan.layers if layer.scheme != "float"]
    if any(layer.weight_bits < 8 for layer in plan.layers) and sizes:
        text.append(f"; {8 * sum(stored for stored, _ in sizes) / sum(weights for _, weights in sizes):.2f} bits a weight in the mean")
    if plan.float_islands:
        text.append(f"; in float: {', '.join(printable(i.name) for i in plan.float_islands)}")
    return text
