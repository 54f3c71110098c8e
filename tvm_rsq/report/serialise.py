"""ReportData as a JSON-able dict and back, so that a report travels inside an artifact without pickles.

Pictures are base64 PNG text (lossless), the plan is the dict of QuantPlan.to_json, tuples are lists, and of edges, which are evenly
spaced, there are the first and the last.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from tvm_rsq.errors import ArtifactError, ConfigError
from tvm_rsq.plan import QuantPlan
from tvm_rsq.report import png
from tvm_rsq.report.data import DeviceRow, Fidelity, Histogram, LatencyRow, LayerTime, ReportData

SCHEMA = 1
_MOST_BYTES = 2**28  # of all pictures together


def to_dict(data: ReportData) -> dict[str, Any]:
    """`data` as dicts, lists, text and numbers, with its schema version under "schema"."""
    return {
        "schema": SCHEMA,
        "network": data.network,
        "target": data.target,
        "plan": json.loads(data.plan.to_json()),
        "images": [png.encode(picture) for picture in data.images],
        "image_source": data.image_source,
        "loss_curve": [{key: float(value) for key, value in step.items()} for step in data.loss_curve],
        "histograms": {name: {**asdict(shape), "edges": [shape.edges[0], shape.edges[-1]]} for name, shape in data.histograms.items()},
        "layer_times": [asdict(entry) for entry in data.layer_times],
        "latencies": [asdict(row) for row in data.latencies],
        "devices": [asdict(row) for row in data.devices],
        "fidelity": [asdict(entry) for entry in data.fidelity],
        "weight_bytes_before": data.weight_bytes_before,
        "weight_bytes_after": data.weight_bytes_after,
        "facts": dict(data.facts),
        "notes": list(data.notes),
    }


def from_dict(record: dict[str, Any]) -> ReportData:
    """Read what `to_dict` made (also after a JSON round trip). ArtifactError: another schema, or not a report."""
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema != SCHEMA:
        raise ArtifactError(f"report data has schema {schema!r}, this version reads {SCHEMA}; compile the network again")
    try:
        pictures = _pictures(record["images"])
        return ReportData(
            network=record["network"],
            target=record["target"],
            plan=QuantPlan.from_json(json.dumps(record["plan"])),
            images=np.stack(pictures) if pictures else np.zeros((0, 1, 1, 3), np.uint8),
            image_source=record["image_source"],
            loss_curve=tuple(record["loss_curve"]),
            histograms={
                name: Histogram(counts=tuple(h["counts"]), edges=_edges(h["edges"], len(h["counts"])), levels=tuple(h["levels"]))
                for name, h in record["histograms"].items()
            },
            layer_times=tuple(LayerTime(**entry) for entry in record["layer_times"]),
            latencies=tuple(LatencyRow(**{**row, "times_us": tuple(row["times_us"])}) for row in record["latencies"]),
            devices=tuple(device_row(row) for row in record.get("devices", ())),
            fidelity=tuple(Fidelity(**entry) for entry in record["fidelity"]),
            weight_bytes_before=record["weight_bytes_before"],
            weight_bytes_after=record["weight_bytes_after"],
            facts=record["facts"],
            notes=tuple(record["notes"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise ArtifactError(f"report data is damaged ({error!r}); compile the network again") from error


def _pictures(texts: list[str]) -> list[np.ndarray]:
    """A few kilobytes may say that they are gigabytes, each."""
    made: list[np.ndarray] = []
    for text in texts:
        made.append(png.decode(text, _MOST_BYTES - sum(picture.nbytes for picture in made)))
    return made


def device_row(record: dict[str, Any]) -> DeviceRow:
    """Of its dict.   TypeError: another one's"""
    times = record.get("latency_us")
    return DeviceRow(**{**record, "latency_us": None if times is None else tuple(times)})


def _edges(ends: tuple[float, float], bins: int) -> tuple[float, ...]:
    low, high = ends
    return tuple(float(edge) for edge in np.linspace(low, high, bins + 1))
