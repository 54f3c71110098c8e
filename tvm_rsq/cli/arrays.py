"""Arrays from and to .npy and .npz files, without pickles."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from tvm_rsq.calibration_set import CalibrationSet


def read_array(path: Path) -> np.ndarray:
    """The array in a .npy file. InputError: no such file, or not one."""
    import numpy as np

    try:
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a .npy file, as numpy.save writes it") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a readable .npy file ({error}); write it with numpy.save") from error
    if not isinstance(found, np.ndarray):
        raise InputError(f"{path} holds several arrays, expected one; write each with numpy.save, and give one --input for each")
    return found


def read_inputs(paths: Sequence[Path]) -> tuple[np.ndarray, ...]:
    """One array per network input. InputError: NaN or infinity, which integers cannot hold, so that the answer would look ordinary."""
    import numpy as np

    arrays = tuple(read_array(path) for path in paths)
    for path, array in zip(paths, arrays, strict=True):
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise InputError(f"{path} holds NaN or infinity, expected finite numbers; remove those samples")
    return arrays


def read_calibration(path: Path | None) -> CalibrationSet | np.ndarray | None:
    """A CalibrationSet from .npz, real inputs from .npy, None for None. CalibrationError or InputError: not such a file."""
    if path is None:
        return None
    if path.suffix == ".npz":
        from tvm_rsq.calibration_set import CalibrationSet

        return CalibrationSet.load(path)
    return read_array(path)


def write_arrays(path: Path, arrays: Sequence[np.ndarray]) -> None:
    """One array as .npy; several, or a name that ends in .npz, as .npz with output_0, output_1, ... Atomic."""
    import numpy as np

    if path.suffix not in (".npy", ".npz"):
        raise InputError(f"the output is {path.name}, expected a name that ends in .npy or .npz, which is what is written")
    if len(arrays) > 1 and path.suffix != ".npz":
        raise InputError(f"the network has {len(arrays)} outputs and {path.name} holds one; name an .npz file")
    with atomic_write(path) as partial, partial.open("wb") as file:
        if path.suffix == ".npz":
            named: dict[str, Any] = {f"output_{i}": array for i, array in enumerate(arrays)}
            np.savez(file, **named)
        else:
            np.save(file, arrays[0])
