"""The table of grids: for every layer, what each grid that its weights might have been stored on costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tvm_rsq.layer_record import GridTrial, LayerPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class GridCell:
    """trial: None where this grid was not tried; chosen: whether the layer is stored so"""

    trial: GridTrial | None
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRow:
    """One layer.   name: of it; cells: one for each column"""

    name: str
    cells: tuple[GridCell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridTotal:
    """Sums over the layers on which this grid was tried, None where that is not all of them; of layers, how many chose it."""

    kl: float | None
    weight_bytes: int | None
    layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GridTable:
    """columns: "4 bits", "4 bits, codebook", ...; totals: of each column"""

    columns: tuple[str, ...]
    rows: tuple[GridRow, ...]
    totals: tuple[GridTotal, ...]
    chosen_kl: float
    chosen_bytes: int


def grid_table(layers: Sequence[LayerPlan]) -> GridTable | None:
    """None where nothing was tried."""
    tried = [layer for layer in layers if layer.grids]
    columns = sorted({(trial.bits, trial.codebook) for layer in tried for trial in layer.grids})
    if not columns:
        return None
    rows = tuple(GridRow(name=layer.name, cells=tuple(_cell(layer, *column) for column in columns)) for layer in tried)
    totals = tuple(_total([row.cells[i] for row in rows]) for i in range(len(columns)))
    chosen = [cell.trial for row in rows for cell in row.cells if cell.chosen and cell.trial]
    names = tuple(f"{bits} bits{', codebook' if codebook else ''}" for bits, codebook in columns)
    return GridTable(
        columns=names, rows=rows, totals=totals, chosen_kl=math.fsum(trial.kl for trial in chosen),
        chosen_bytes=sum(trial.weight_bytes for trial in chosen),
    )  # fmt: skip


def _cell(layer: LayerPlan, bits: int, codebook: bool) -> GridCell:
    trial = next((trial for trial in layer.grids if (trial.bits, trial.codebook) == (bits, codebook)), None)
    return GridCell(trial=trial, chosen=(layer.weight_bits, bool(layer.codebook)) == (bits, codebook) and layer.scheme != "float")


def _total(cells: Sequence[GridCell]) -> GridTotal:
    trials = [cell.trial for cell in cells if cell.trial is not None]
    everywhere = len(trials) == len(cells)
    return GridTotal(
        kl=math.fsum(trial.kl for trial in trials) if everywhere else None,
        weight_bytes=sum(trial.weight_bytes for trial in trials) if everywhere else None,
        layers=sum(cell.chosen for cell in cells),
    )  # fmt: skip
