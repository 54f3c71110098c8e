"""Several builds side by side: their layers matched by name, and where what was decided differs.

Builds may be of different networks: a layer that a build lacks is absent there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm_rsq.layer_record import LayerPlan
from tvm_rsq.report.data import Fidelity, LatencyRow, ReportData
from tvm_rsq.report.measured import Measured
from tvm_rsq.report.summary import chosen_kl, grid_name, is_baseline, layer_rows

MOST_BUILDS = 8  # columns of more are read by nobody
DECISIONS = ("scheme", "bits", "levers")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Build:
    """One artifact.

    label       tells it from the others
    file_bytes  of the whole artifact
    report      None for an FP32 build
    measured    what was measured since and is not in the file; a report is to have it too
    """

    label: str
    network: str
    target: str
    file_bytes: int
    report: ReportData | None
    measured: Measured = Measured()

    @property
    def latency(self) -> LatencyRow | None:
        """Its own row, of those of its FP32 build beside it."""
        reported = () if self.report is None else (row for row in self.report.latencies if row.times_us and not is_baseline(row))
        return next(iter((*self.measured.latencies, *reported)), None)

    @property
    def fidelity(self) -> tuple[Fidelity, ...]:
        return self.measured.fidelity if self.report is None else self.report.fidelity

    @property
    def layers(self) -> tuple[LayerPlan, ...]:
        return () if self.report is None else self.report.plan.layers

    @property
    def measure(self) -> str:
        """What `LayerCell.cost` counts: "time", but for a plan that was decided by counts and never timed."""
        if self.report is None or self.report.layer_times:
            return "time"
        return str(self.report.plan.provenance.get("measure", "time"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCell:
    """A layer in one build.

    plan     None: it is absent
    kl       of this layer alone as it was decided, in nats
    cost     its kernels' time in microseconds as profiled, else as measured for the decision; or what Build.measure says
    differs  which of DECISIONS are other than the first build's
    """

    plan: LayerPlan | None = None
    kl: float | None = None
    cost: float | None = None
    differs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedLayer:
    """cells: one for each quantized build; differs: whether they disagree on anything, presence included"""

    index: int
    name: str
    op: str
    macs: int
    cells: tuple[LayerCell, ...]
    differs: bool


def compare_layers(builds: Sequence[Build]) -> tuple[ComparedLayer, ...]:
    """Every layer that a quantized build has, in execution order; those of later builds behind the layer they follow there."""
    found = [_cells(build.report) for build in builds if build.report is not None]
    return tuple(_compared(i, name, [cells.get(name, LayerCell()) for cells in found]) for i, name in enumerate(_order(found), 1))


def levers_of(layer: LayerPlan) -> str:
    """What it gave up for speed, as text: "shift, accumulate16=4"; "" for nothing."""
    requantize = layer.requantize.replace("_", "-") if layer.requantize != "float" else ""
    return ", ".join(filter(None, (requantize, f"accumulate16={layer.accumulate16}" if layer.accumulate16 else "")))


def _cells(report: ReportData) -> dict[str, LayerCell]:
    return {
        row.plan.name: LayerCell(plan=row.plan, kl=chosen_kl(row.plan), cost=row.time_us if report.layer_times else row.plan.time_us)
        for row in layer_rows(report)
    }


def _order(builds: Sequence[dict[str, LayerCell]]) -> list[str]:
    order: list[str] = []
    for names in builds:
        at = 0
        for name in names:
            if name in order:
                at = order.index(name) + 1
            else:
                order.insert(at, name)
                at += 1
    return order


def _compared(index: int, name: str, cells: Sequence[LayerCell]) -> ComparedLayer:
    some = next(cell.plan for cell in cells if cell.plan is not None)
    marked = tuple(
        cell if cell.plan is None or cells[0].plan is None
        else LayerCell(plan=cell.plan, kl=cell.kl, cost=cell.cost, differs=_difference(cell.plan, cells[0].plan))
        for cell in cells
    )  # fmt: skip
    absent = sum(cell.plan is None for cell in cells)
    return ComparedLayer(
        index=index, name=name, op=some.op, macs=some.macs, cells=marked, differs=bool(absent) or any(cell.differs for cell in marked)
    )


def _difference(layer: LayerPlan, other: LayerPlan) -> frozenset[str]:
    read = {"scheme": lambda plan: plan.scheme, "bits": grid_name, "levers": levers_of}
    return frozenset(name for name in DECISIONS if read[name](layer) != read[name](other))
