"""Ranges by the sigma rule: what a batch norm says of a layer's output, and no data at all.

    low = min over channels of (mean_c - 6 std_c)        high = max over channels of (mean_c + 6 std_c)

within what the activation lets through (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
section 5). A sum with a residual has the residual's range added. A control: see docs/accuracy.md for what it is worth.
"""

from __future__ import annotations

from collections.abc import Mapping

from tvm_rsq.layer_statistics import NormalStatistics
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import Islands
from tvm_rsq.silent_channels import activation_bounds, residual_of

DEVIATIONS = 6.0

Range = tuple[float, float]


def sigma_ranges(
    ranges: Mapping[str, Range], statistics: Mapping[str, NormalStatistics], *, view: Dataflow, islands: Islands, origin: Mapping[str, str]
) -> dict[str, Range]:
    """`ranges` (tensor -> low, high) with those of layers that have a batch norm in the place of what was seen.

    statistics  layer -> what its output with bias had in training, float64 (O,) each
    origin      stored tensor -> the one whose range it has (see origins)
    """
    found = dict(ranges)
    for island in islands.islands:  # in execution order: residuals come first
        if island.layer not in statistics or origin.get(island.output) not in ranges:
            continue
        trained = statistics[str(island.layer)]
        reach = DEVIATIONS * trained.std
        low, high = float((trained.mean - reach).min()), float((trained.mean + reach).max())
        if (residual := residual_of(view, island)) is not None:
            added = found.get(origin.get(residual, residual), (0.0, 0.0))
            low, high = low + added[0], high + added[1]
        floor, ceiling = activation_bounds(view, island)
        found[origin[island.output]] = max(low, floor), max(min(high, ceiling), floor)
    return found
