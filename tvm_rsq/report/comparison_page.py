"""compare.html: several builds side by side, as one page that fetches nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from tvm_rsq.errors import ConfigError
from tvm_rsq.report import comparison_charts, summary
from tvm_rsq.report.comparison import MOST_BUILDS, Build, LayerCell, compare_layers, levers_of
from tvm_rsq.report.comparison_figures import figure_rows
from tvm_rsq.report.document import render_document, write_document
from tvm_rsq.report.settings import compare_settings

LETTERS = "ABCDEFGH"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnGroup:
    """The columns of one quantized build in the table of layers: only those that have something in them."""

    letter: str
    build: Build
    columns: tuple[str, ...]

    @property
    def cost_source(self) -> str:
        """Where "cost" is from; "" without that column."""
        if "cost" not in self.columns or self.build.report is None:
            return ""
        return "profiled" if self.build.report.layer_times else "measured for the decision"


def render_comparison(builds: Sequence[Build]) -> str:
    """The page as text; parts that no build has are left out.   ConfigError: fewer than two builds, or more than MOST_BUILDS"""
    if not 2 <= len(builds) <= MOST_BUILDS:
        raise ConfigError(f"{len(builds)} builds to compare, expected 2 to {MOST_BUILDS}; make several pages")
    lettered = [(letter, build) for letter, build in zip(LETTERS, builds, strict=False)]
    rows = compare_layers(builds)
    quantized = [(letter, build) for letter, build in lettered if build.report is not None]
    groups = [
        ColumnGroup(letter=letter, build=build, columns=_columns([row.cells[i] for row in rows]))
        for i, (letter, build) in enumerate(quantized)
    ]
    layers = [layer for build in builds for layer in build.layers]
    figures = figure_rows(builds)
    settings, alike = compare_settings([build.report for build in builds])
    return render_document(
        "compare.html.j2",
        styles=("style.css", "compare.css"),
        builds=lettered,
        groups=groups,
        networks=list(dict.fromkeys(build.network for build in builds)),
        schemes={letter: summary.scheme_counts(build.layers) for letter, build in lettered},
        all_schemes=summary.scheme_counts(layers),
        headlines=[row for row in figures if row.headline],
        figures=figures,
        settings=settings,
        alike=alike,
        rows=rows,
        differing=sum(row.differs for row in rows),
        choices=summary.filter_choices(layers),
        levers_of=levers_of,
        strips=comparison_charts.strips(rows),
        divergences=comparison_charts.divergences(rows),
        books=any(layer.codebook for layer in layers),
        paper=_paper(len(groups)),
    )


def write_comparison(builds: Sequence[Build], path: str | os.PathLike[str]) -> None:
    """Write the page to `path` atomically. OSError: the file system's own refusal."""
    write_document(render_comparison(builds), path)


def _paper(groups: int) -> tuple[int, int]:
    """Width and height in mm of the pages with the table of layers: A4, or as many times larger as its columns take without breaking."""
    width = max(297, 72 + 75 * groups)
    return width, round(width * 210 / 297)


def _columns(cells: Sequence[LayerCell]) -> tuple[str, ...]:
    there = {
        "weight error": any(cell.plan and cell.plan.weight_nmse is not None for cell in cells),
        "KL": any(cell.kl is not None for cell in cells),
        "cost": any(cell.cost is not None for cell in cells),
    }
    return ("scheme", "bits", *(name for name, some in there.items() if some))
