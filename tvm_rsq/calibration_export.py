"""A CalibrationSet for other tools: .npy files, a data reader for ONNX Runtime's quantize_static, an nncf.Dataset.

Neither onnxruntime nor nncf is imported before it is needed; a reader needs neither.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.errors import CalibrationError, Error

if TYPE_CHECKING:
    import nncf

    from tvm_rsq.calibration_set import CalibrationSet


def save_npy(calibration: CalibrationSet, path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Write the inputs, float32 (N, ...), without their provenance: one to `path`, several to NAME_0.npy, NAME_1.npy, ... beside it.

    Returns the files, in the order of the network's inputs; each is whole or not there.
    CalibrationError: `path` does not end in .npy.   OSError: the file system's refusal.
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise CalibrationError(f"{path} does not end in .npy; name such a file, or write an .npz with `save`, which keeps the provenance")
    count = len(calibration.inputs)
    files = (path,) if count == 1 else tuple(path.with_name(f"{path.stem}_{i}.npy") for i in range(count))
    for name, array in zip(files, calibration.inputs, strict=True):
        with atomic_write(name) as partial, partial.open("wb") as file:
            np.save(file, _float32(array), allow_pickle=False)
    return files


def data_reader(calibration: CalibrationSet, input_names: Sequence[str] | str, *, batch: int = 1) -> DataReader:
    """What onnxruntime.quantization.quantize_static takes as its calibration_data_reader.

    input_names  of the ONNX file's inputs, in the order of the network's; one name may be given by itself
    batch        samples a call: the batch that the file was exported with; any where its batch is symbolic
    CalibrationError: another number of names than of inputs, a name twice, or a batch that is no whole number of at least 1.
    """
    return DataReader(_batches(calibration, input_names, batch))


def nncf_dataset(
    calibration: CalibrationSet, input_names: Sequence[str] | str | None = None, *, batch: int = 1, as_torch: bool = False
) -> nncf.Dataset:
    """What nncf.quantize takes as its calibration_dataset; give it subset_size=len(dataset) too, as its own default may be less.

    input_names  of the inputs of an ONNX model, which must have them; None hands inputs over in their order, as OpenVINO models
                 and torch modules take them
    batch        samples an item: more than 1 only for a model of that fixed batch, as NNCF's statistics are per item
    as_torch     tensors for a torch module instead of numpy arrays
    CalibrationError: as `data_reader`.   Error: nncf is not installed.
    """
    items = _batches(calibration, input_names, batch, as_torch)
    try:
        import nncf
    except ImportError as error:
        raise Error(f"nncf cannot be imported ({error}), and an nncf.Dataset needs it; run: pip install nncf") from error
    return nncf.Dataset(items)


@dataclass(frozen=True, slots=True, eq=False)
class Batches(Sequence[Any]):
    """The samples `batch` at a time, the last batch filled up from the first samples, each as a runtime's input.

    arrays    float32 (N, ...) each
    names     one for each array: an item is a dict; None: an item is an array, or a tuple of several
    as_torch  items hold torch tensors
    """

    arrays: tuple[np.ndarray, ...]
    names: tuple[str, ...] | None
    batch: int
    as_torch: bool = False

    def __len__(self) -> int:
        return -(-len(self.arrays[0]) // self.batch)

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]  # runtimes ask for one item, never for a slice
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        rows = np.arange(index * self.batch, (index + 1) * self.batch) % len(self.arrays[0])
        parts: tuple[Any, ...] = tuple(array[rows] for array in self.arrays)
        if self.as_torch:
            import torch

            parts = tuple(torch.from_numpy(part) for part in parts)
        if self.names is not None:
            return dict(zip(self.names, parts, strict=True))
        return parts if len(parts) > 1 else parts[0]


class DataReader:
    """Batches one after another: a CalibrationDataReader of ONNX Runtime by its methods, which is all that it asks for."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self.rewind()

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Input name -> float32 (batch, ...) of the next batch; None after the last."""
        if self._next >= self._end:
            return None
        self._next += 1
        return self._batches[self._next - 1]

    def rewind(self) -> None:
        """Start again with the first of all batches."""
        self.set_range(0, len(self._batches))

    def set_range(self, start_index: int, end_index: int) -> None:
        """Read batches start_index up to end_index, which is left out (ONNX Runtime's CalibStridedMinMax asks for it)."""
        self._next, self._end = start_index, min(end_index, len(self._batches))

    def __len__(self) -> int:
        """The number of batches, whatever has been read."""
        return len(self._batches)

    def __iter__(self) -> DataReader:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        feeds = self.get_next()
        if feeds is None:
            raise StopIteration
        return feeds


def _batches(calibration: CalibrationSet, input_names: Sequence[str] | str | None, batch: int, as_torch: bool = False) -> Batches:
    names = (input_names,) if isinstance(input_names, str) else None if input_names is None else tuple(input_names)
    count = len(calibration.inputs)
    if names is not None and (len(names) != count or len(set(names)) != count):
        raise CalibrationError(
            f"input names are {list(names)} and the calibration set has {count} inputs, expected a name of its own for each, in their order"
        )
    if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
        raise CalibrationError(f"batch is {batch!r}, expected a whole number of at least 1: the batch that the network was exported with")
    return Batches(tuple(_float32(array) for array in calibration.inputs), names, int(batch), as_torch)


def _float32(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)
