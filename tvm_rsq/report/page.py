"""report.html: ReportData as one page that fetches nothing.

Everything that comes from the network (layer names above all) is text to escape: autoescape is on in every template, and a
content security policy admits only the page's own script, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.report import charts, formats, png, summary
from tvm_rsq.report.data import ReportData
from tvm_rsq.report.devices import device_groups
from tvm_rsq.report.grids import grid_table

MOST_PICTURES = 64  # a picture of 224 x 224 noise is about 150 kB of PNG


def render(data: ReportData) -> str:
    """The page as text. Parts of `data` that are empty are left out."""
    script = _asset("page.js")
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader("tvm_rsq.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for name in ("size", "quantity", "duration", "nats", "percent", "ratio", "scales", "cost_figure"):
        environment.filters[name] = getattr(formats, name)
    environment.filters["breakable"] = _breakable
    return environment.get_template("page.html.j2").render(
        data=data,
        plan=data.plan,
        style=Markup(_asset("style.css")),
        script=Markup(script),
        script_hash=script_hash,
        rows=summary.layer_rows(data),
        schemes=summary.scheme_counts(data.plan.layers),
        labels=summary.SCHEME_LABELS,
        speed=summary.speed(data),
        chosen_kl=sum(summary.chosen_kl(layer) or 0.0 for layer in data.plan.layers),
        measured_kl=any(layer.kl_per_tensor is not None for layer in data.plan.layers),
        grids=grid_table(data.plan.layers),
        sensitivity=charts.sensitivity(data.plan.layers),
        loss=charts.loss_curve(data),
        histograms={name: charts.histogram(found) for name, found in data.histograms.items()},
        latency=charts.latency(data.latencies),
        bars=charts.time_bars(data),
        devices=device_groups(data.devices),
        quantile=summary.quantile,
        pictures=[png.encode(picture) for picture in data.images[:MOST_PICTURES]],
        levers=any(layer.requantize != "float" or layer.accumulate16 for layer in data.plan.layers),
        frontier=data.plan.provenance.get("frontier", ()),
        provenance=_flat({key: value for key, value in data.plan.provenance.items() if key != "frontier"}),
    )


def write(data: ReportData, path: str | os.PathLike[str]) -> None:
    """Write the page to `path` atomically. OSError: the file system's own refusal."""
    text = render(data)
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _asset(name: str) -> str:
    return (resources.files("tvm_rsq.report") / "templates" / name).read_text(encoding="utf-8")


def _breakable(name: str) -> Markup:
    """A layer's name that may wrap behind its dots and slashes rather than anywhere."""
    return escape(name).replace(".", Markup(".<wbr>")).replace("/", Markup("/<wbr>"))


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{"a": {"b": 1}} -> {"a.b": "1"}, for a list of facts; empty values are left out."""
    found: dict[str, str] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        elif value not in (None, "", [], ()):
            found[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return found
