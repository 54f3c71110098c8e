"""A case in the GPU's memory: several sets of its arrays, poisoned before its kernel runs and compared afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from scripts.device_run.case import Array, Case
from scripts.device_run.driver import Driver

_POISON = 0xA5  # of every byte that is to be written
_GUARD = 256  # poisoned bytes behind each array, which are to stay so


@dataclass(frozen=True, slots=True)
class Placed:
    """sets  of pointers, one for each of the case's arrays; values  of the arrays: what is read, and what should be written"""

    driver: Driver
    case: Case
    function: object
    values: tuple[np.ndarray, ...]
    sets: tuple[tuple[int, ...], ...]

    def launches(self) -> list[Callable[[], None]]:
        """One of each set."""
        case = self.case
        return [partial(self.driver.launch, self.function, case.grid, case.block, case.shared_bytes, pointers) for pointers in self.sets]

    def poison(self) -> None:
        for pointers in self.sets:
            for array, pointer in zip(self.case.arrays, pointers, strict=True):
                if array.written:
                    self.driver.fill(pointer, _POISON, array.nbytes)

    def wrong_bytes(self) -> int:
        """Bytes in which memory is not as it should be: of outputs, of inputs, and behind them."""
        return sum(
            self._wrong(array, pointer, values)
            for pointers in self.sets
            for array, pointer, values in zip(self.case.arrays, pointers, self.values, strict=True)
        )

    def _wrong(self, array: Array, pointer: int, values: np.ndarray) -> int:
        found = self.driver.download(pointer, array.nbytes + _GUARD)
        expected = values.reshape(-1).view(np.uint8)
        return int((found[: array.nbytes] != expected).sum() + (found[array.nbytes :] != _POISON).sum())


def place(driver: Driver, case: Case, function: object, values: tuple[np.ndarray, ...], sets: int) -> Placed:
    """Inputs are uploaded, outputs poisoned. They are the driver's to free."""
    return Placed(driver, case, function, values, tuple(tuple(map(partial(_upload, driver), case.arrays, values)) for _ in range(sets)))


def _upload(driver: Driver, array: Array, values: np.ndarray) -> int:
    pointer = driver.allocate(array.nbytes + _GUARD)
    driver.fill(pointer, _POISON, array.nbytes + _GUARD)
    driver.synchronize()
    if not array.written:
        driver.upload(pointer, values)
    return pointer
