"""The derived numbers of a report: nothing here is stored, everything follows from ReportData."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tvm_rsq.layer_record import LayerPlan
from tvm_rsq.report.data import LatencyRow, ReportData

SCHEME_LABELS = {"per_tensor": "per-tensor", "per_channel": "per-channel", "float": "float"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One line of the layer table; time_us is None where the layer was not timed."""

    index: int
    plan: LayerPlan
    time_us: float | None
    kernel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Median latencies in microseconds; baseline None where FP32 was not measured."""

    build: str
    median_us: float
    baseline: str
    baseline_us: float | None

    @property
    def ratio(self) -> float | None:
        """Baseline time over our time: above 1 is faster."""
        return None if self.baseline_us is None else self.baseline_us / self.median_us


def layer_rows(data: ReportData) -> list[LayerRow]:
    """The plan's layers in execution order, joined with their measured time (summed over kernel calls of one layer)."""
    times: dict[str, float] = defaultdict(float)
    kernels: dict[str, list[str]] = defaultdict(list)
    for entry in data.layer_times:
        times[entry.layer] += entry.time_us
        if entry.kernel not in kernels[entry.layer]:
            kernels[entry.layer].append(entry.kernel)
    return [
        LayerRow(index=i, plan=layer, time_us=times.get(layer.name), kernel=", ".join(kernels.get(layer.name, ())))
        for i, layer in enumerate(data.plan.layers, 1)
    ]


def scheme_counts(layers: Sequence[LayerPlan]) -> dict[str, int]:
    """Scheme -> number of layers, only those that occur, per-tensor first."""
    found = Counter[str](layer.scheme for layer in layers)
    return {scheme: found[scheme] for scheme in SCHEME_LABELS if found[scheme]}


def is_baseline(row: LatencyRow) -> bool:
    """Whether a build is a float one, the thing we compare with."""
    return row.build.casefold().startswith(("fp32", "float"))


def speed(data: ReportData) -> Speed | None:
    """The integer build against the first float build; None where no integer build was measured."""
    timed = [row for row in data.latencies if row.times_us]
    ours = next((row for row in timed if not is_baseline(row)), None)
    base = next((row for row in timed if is_baseline(row)), None)
    if ours is None:
        return None
    return Speed(
        build=ours.build,
        median_us=median(ours.times_us),
        baseline=base.build if base else "",
        baseline_us=median(base.times_us) if base else None,
    )


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile, 0 <= q <= 1, with linear interpolation. ValueError: no values."""
    if not values:
        raise ValueError("no values to take a quantile of")
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def chosen_kl(layer: LayerPlan) -> float | None:
    """The divergence that the chosen way costs, in nats; None where it was not measured or nothing was quantized."""
    for way in layer.considered:
        if (way.scheme, way.requantize, way.accumulate16) == (layer.scheme, layer.requantize, layer.accumulate16):
            return way.kl
    return {"per_tensor": layer.kl_per_tensor, "per_channel": layer.kl_per_channel}.get(layer.scheme)


def stored_bits(layer: LayerPlan) -> int:
    """Bits of one weight as it is stored: 32 in float, unless it is a level of a codebook."""
    return 32 if layer.scheme == "float" and not layer.codebook else layer.weight_bits


def grid_name(layer: LayerPlan) -> str:
    """What a weight may be: "8", "4, book"."""
    return f"{stored_bits(layer)}{', book' if layer.codebook else ''}"


def mean_bits(layers: Sequence[LayerPlan]) -> float | None:
    """Bits of a weight in the mean over all weights, without scales and codebooks; None: no weights."""
    weights = sum(8 * layer.weight_bytes / stored_bits(layer) for layer in layers)
    return 8 * sum(layer.weight_bytes for layer in layers) / weights if weights else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterChoices:
    """What the layer table can be narrowed to, only what occurs.   grids: of grid_name, most bits first"""

    schemes: tuple[str, ...]
    ops: tuple[str, ...]
    grids: tuple[str, ...]


def filter_choices(layers: Sequence[LayerPlan]) -> FilterChoices:
    """Of the layers of one build or of several."""
    grids = {grid_name(layer): (-stored_bits(layer), bool(layer.codebook)) for layer in layers}
    return FilterChoices(
        schemes=tuple(scheme_counts(layers)), ops=tuple(dict.fromkeys(layer.op for layer in layers)),
        grids=tuple(sorted(grids, key=lambda name: grids[name])),
    )  # fmt: skip
