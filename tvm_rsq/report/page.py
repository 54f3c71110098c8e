"""report.html: ReportData as one page that fetches nothing."""

from __future__ import annotations

import os

from tvm_rsq.report import charts, png, summary
from tvm_rsq.report.data import ReportData
from tvm_rsq.report.devices import device_groups
from tvm_rsq.report.document import render_document, write_document
from tvm_rsq.report.grids import grid_table
from tvm_rsq.report.settings import build_settings

MOST_PICTURES = 64  # a picture of 224 x 224 noise is about 150 kB of PNG


def render(data: ReportData) -> str:
    """The page as text. Parts of `data` that are empty are left out."""
    layers = data.plan.layers
    return render_document(
        "page.html.j2",
        data=data,
        plan=data.plan,
        rows=summary.layer_rows(data),
        choices=summary.filter_choices(layers),
        schemes=summary.scheme_counts(layers),
        speed=summary.speed(data),
        chosen_kl=sum(summary.chosen_kl(layer) or 0.0 for layer in layers),
        measured_kl=any(layer.kl_per_tensor is not None for layer in layers),
        grids=grid_table(layers),
        sensitivity=charts.sensitivity(layers),
        loss=charts.loss_curve(data),
        histograms={name: charts.histogram(found) for name, found in data.histograms.items()},
        latency=charts.latency(data.latencies),
        bars=charts.time_bars(data),
        devices=device_groups(data.devices),
        quantile=summary.quantile,
        pictures=[png.encode(picture) for picture in data.images[:MOST_PICTURES]],
        levers=any(layer.requantize != "float" or layer.accumulate16 for layer in layers),
        frontier=data.plan.provenance.get("frontier", ()),
        provenance=build_settings(data),
    )


def write(data: ReportData, path: str | os.PathLike[str]) -> None:
    """Write the page to `path` atomically. OSError: the file system's own refusal."""
    write_document(render(data), path)
