"""QuantPlan: the one record of every decision, as JSON.

    weight      q = the point of its grid that is closest to w / scale               int8 carrier, see weight_grid
    activation  q = clip(rne(x / scale) + zero_point, 0, 2^bits - 1)                 uint8 carrier, asymmetric
    bias        q = rne(b / (scale_input * scale_weight))                            int32
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.errors import ConfigError
from tvm_rsq.layer_record import Alternative, GridTrial, LayerPlan
from tvm_rsq.tensor_quant import TensorQuant

SCHEMA = 1
OF_THE_FILE = "of the file"  # the scheme of a network that was quantized elsewhere
_MEASURED = ("kl", "kl_per_tensor", "kl_per_channel", "weight_nmse", "time_us", "excess")  # of these any may come out infinite


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatIsland:
    """An operator that stays in float, by name and with the reason."""

    name: str
    op: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantPlan:
    """Every decision about one network.

    network_hash  of the deploy form that the names refer to
    layers        in execution order
    tensors       activation name -> its quantization; an activation that is not here is never stored
    float_islands what runs in float between the first quantize and the last dequantize
    provenance    configuration, seed, calibration source and notes, for the report
    """

    network_hash: str
    layers: tuple[LayerPlan, ...]
    tensors: Mapping[str, TensorQuant]
    float_islands: tuple[FloatIsland, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """One-line remarks of those who decided."""
        return tuple(self.provenance.get("notes", ()))

    @property
    def calibrated(self) -> bool:
        """Whether data decided any of it: not where a file brought all of its scales."""
        return self.provenance.get("scheme") != OF_THE_FILE or "calibration_source" in self.provenance

    def layer(self, name: str) -> LayerPlan:
        """The layer called `name`. KeyError: there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"the plan has no layer {name!r}; it has {[layer.name for layer in self.layers][:8]}...")

    def as_record(self) -> dict[str, Any]:
        """What `to_json` writes, numbers as they are."""
        return {"schema": SCHEMA, **asdict(self)}

    def to_json(self) -> str:
        """The plan as JSON text; equal plans give equal text. Divergences that are not finite are the texts "inf" and "nan"."""
        return json.dumps(_as_json(self.as_record()), indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> QuantPlan:
        """Read what `to_json` wrote. ConfigError: not a plan, or of another schema."""
        try:
            record = json.loads(text)
            schema = record.pop("schema")
            if schema != SCHEMA:
                raise ConfigError(f"plan has schema {schema}, this version reads {SCHEMA}; quantize the network again")
            layers = tuple(_layer(layer) for layer in record.pop("layers"))
            tensors = {name: TensorQuant(**value) for name, value in record.pop("tensors").items()}
            islands = tuple(FloatIsland(**island) for island in record.pop("float_islands"))
            provenance = dict(record.pop("provenance", {}))
            if "frontier" in provenance:
                provenance["frontier"] = [_measured(point) for point in provenance["frontier"]]
            return cls(layers=layers, tensors=tensors, float_islands=islands, provenance=provenance, **record)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"not a quantization plan ({error}); write one with plan.save") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON atomically."""
        with atomic_write(path) as partial:
            partial.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> QuantPlan:
        """Read a file that `save` wrote. ConfigError: no such file, or not a plan."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror or error}; expected a file written by plan.save") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not a quantization plan (not text); write one with plan.save") from error
        return cls.from_json(text)


def _layer(record: Mapping[str, Any]) -> LayerPlan:
    considered = tuple(Alternative(**_measured(alternative)) for alternative in record.get("considered", ()))
    codebook = tuple(tuple(book) for book in record.get("codebook", ()))
    grids = tuple(GridTrial(**_measured(trial)) for trial in record.get("grids", ()))
    made = {"weight_scale": tuple(record["weight_scale"]), "considered": considered, "codebook": codebook, "grids": grids}
    return LayerPlan(**{**_measured(record), **made})


def _measured(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float(value) if key in _MEASURED and isinstance(value, str) else value for key, value in record.items()}


def _as_json(value: Any) -> Any:
    """JSON has no infinity, and readers other than Python's refuse it."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: [_short(scale) for scale in each] if key == "weight_scale" else _as_json(each) for key, each in value.items()}
    return [_as_json(each) for each in value] if isinstance(value, (list, tuple)) else value


def _short(scale: float) -> float:
    """The number of fewest digits that is the same float32."""
    return float(str(np.float32(scale)))
