"""Ranges that were seen, and what batch norms know better: silent channels, averages of drawn images, or by the sigma rule all of them."""

from __future__ import annotations

from collections.abc import Mapping

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.executor import Executor
from tvm_rsq.layer_statistics import NormalStatistics
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import Islands
from tvm_rsq.pooled_ranges import widen_pooled
from tvm_rsq.sigma_ranges import sigma_ranges
from tvm_rsq.silent_channels import widen_silent

Range = tuple[float, float]


def as_trained(
    ranges: Mapping[str, Range], statistics: Mapping[str, NormalStatistics], calibration: CalibrationSet, *, executor: Executor,
    view: Dataflow, islands: Islands, origin: Mapping[str, str], sigma: bool = False,
) -> dict[str, Range]:  # fmt: skip
    """`ranges` (tensor -> low, high) of a calibration set; real inputs have shown all that there is, unless `sigma` asks for its own."""
    found = dict(ranges)
    if sigma:
        found = sigma_ranges(found, statistics, view=view, islands=islands, origin=origin)
    elif calibration.source != "real" and statistics:
        found = widen_silent(found, statistics, calibration, executor=executor, view=view, islands=islands, origin=origin)
    if calibration.source == "statistics":  # afterwards: an average lies within the range of what is averaged
        found = widen_pooled(found, calibration, executor=executor, view=view, origin=origin)
    return found
