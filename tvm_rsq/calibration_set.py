"""CalibrationSet: the inputs that stand in for data, with their provenance, as one .npz file without pickles, or for other tools."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_rsq import calibration_export
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.errors import CalibrationError

if TYPE_CHECKING:
    import nncf

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibrationSet:
    """Inputs for calibration.

    inputs        one float32 array per network input, each (N, ...) with the same N >= 1, all finite
    source        "real", or what SynthesisConfig.source was, or became: "retro-synthesis", "statistics", "zeroq", ...
    seed          seed of the generator that made them; 0 for real data
    network_hash  Model.network_hash of the network they were made for; "" for real data
    loss_curve    one dict of loss terms per synthesis step (empty for other sources)
    notes         one-line remarks for the report, such as a reduced image count
    """

    inputs: tuple[np.ndarray, ...]
    source: str = "real"
    seed: int = 0
    network_hash: str = ""
    loss_curve: tuple[dict[str, float], ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for i, array in enumerate(self.inputs):
            if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.ndim == 0:
                got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
                raise CalibrationError(f"calibration input {i} is {got}, expected float32 (N, ...), preprocessed as the network wants it")
        counts = {len(array) for array in self.inputs}
        if not self.inputs or len(counts) != 1 or counts == {0}:
            raise CalibrationError(f"calibration inputs hold {sorted(counts)} samples, expected the same number of at least 1 in each")
        for array in self.inputs:
            if not np.isfinite(array).all():
                raise CalibrationError("calibration inputs contain NaN or infinity; remove those samples")

    def __len__(self) -> int:
        return len(self.inputs[0])

    def spaced(self, count: int) -> CalibrationSet:
        """`count` of the samples, evenly spaced; the set itself where it has no more."""
        if count >= len(self):
            return self
        chosen = np.linspace(0, len(self) - 1, count).round().astype(int)
        return replace(self, inputs=tuple(array[chosen] for array in self.inputs))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .npz (arrays plus a JSON header) atomically."""
        header: dict[str, Any] = {
            "schema": SCHEMA, "source": self.source, "seed": self.seed, "network_hash": self.network_hash,
            "loss_curve": self.loss_curve, "notes": self.notes,
        }  # fmt: skip
        arrays: dict[str, Any] = {f"input_{i}": array for i, array in enumerate(self.inputs)}
        with atomic_write(path) as partial, partial.open("wb") as file:
            np.savez(file, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)

    def save_npy(self, path: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write the inputs alone as .npy; see calibration_export.save_npy."""
        return calibration_export.save_npy(self, path)

    def data_reader(self, input_names: Sequence[str] | str, *, batch: int = 1) -> calibration_export.DataReader:
        """For ONNX Runtime's quantize_static; see calibration_export.data_reader."""
        return calibration_export.data_reader(self, input_names, batch=batch)

    def nncf_dataset(self, input_names: Sequence[str] | str | None = None, *, batch: int = 1, as_torch: bool = False) -> nncf.Dataset:
        """For nncf.quantize; see calibration_export.nncf_dataset."""
        return calibration_export.nncf_dataset(self, input_names, batch=batch, as_torch=as_torch)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CalibrationSet:
        """Read what `save` wrote. CalibrationError: not such a file, or of a newer schema."""
        try:
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(file["header"].tobytes())
                inputs = tuple(file[f"input_{i}"] for i in range(len(file.files) - 1))
            if header["schema"] != SCHEMA:
                raise CalibrationError(f"{path} has schema {header['schema']}, this version reads {SCHEMA}; make it again")
            return cls(
                inputs=inputs, source=header["source"], seed=header["seed"], network_hash=header["network_hash"],
                loss_curve=tuple(header["loss_curve"]), notes=tuple(header["notes"]),
            )  # fmt: skip
        # TypeError: a .npy file, which np.load takes for an array, or a header that is a list
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
            raise CalibrationError(
                f"{path} is not a calibration set ({error}); make one with tvm_rsq.synthesize(...).save(path)"
            ) from error
