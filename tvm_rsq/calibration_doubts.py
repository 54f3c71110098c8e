"""What looks wrong in given calibration data: finite, of the right shape, and hardly what the network will see."""

from __future__ import annotations

import numpy as np

from tvm_rsq.calibration_set import CalibrationSet

_FAR = 1000.0  # times the value that 99.9 % stay below; preprocessed images reach 2 to 4


def calibration_doubts(calibration: CalibrationSet) -> list[str]:
    """One-line remarks, none where nothing is wrong; of real data only, for the rest was made here."""
    if calibration.source != "real":
        return []
    found = []
    for i, array in enumerate(calibration.inputs):
        size = np.abs(array).reshape(-1)
        largest = float(size.max(initial=0.0))
        usual = float(np.quantile(size, 0.999)) if size.size else 0.0
        if array.min() == array.max():
            found.append(f"calibration input {i} is {float(array.flat[0]):g} everywhere: its range says little about other values")
        elif 0 < _FAR * usual < largest:
            found.append(f"calibration input {i} holds {largest:g}, and 99.9 % of all values stay below {usual:g}: that makes steps coarse")
    return found
