"""Read the weights of a TensorFlow.js layers-model: model.json and its binary shards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def read_weights(model_json: Path) -> dict[str, np.ndarray]:
    """Weight name -> float32 array, in TensorFlow's layouts (convolutions HWIO, dense (in, out)).

    ValueError: a weight that is not plain float32, or shards of another length than the manifest says.
    """
    weights: dict[str, np.ndarray] = {}
    for group in json.loads(model_json.read_text())["weightsManifest"]:
        data = b"".join((model_json.parent / path).read_bytes() for path in group["paths"])
        offset = 0
        for entry in group["weights"]:
            if entry["dtype"] != "float32" or "quantization" in entry:
                raise ValueError(f"{model_json}: {entry['name']} is not plain float32")
            count = int(np.prod(entry["shape"]))
            weights[entry["name"]] = np.frombuffer(data, "<f4", count, offset).reshape(entry["shape"])
            offset += 4 * count
        if offset != len(data):
            raise ValueError(f"{model_json}: the shards hold {len(data)} bytes, the manifest says {offset}")
    return weights
