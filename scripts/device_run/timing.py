"""Times of a case: launches in graphs, in turns with a copy, through so many sets of arrays that the cache holds none of them, or one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import numpy as np

from scripts.device_run.case import Case
from scripts.device_run.driver import Driver
from scripts.device_run.placed import place
from scripts.device_run.row import Times

_COLD = 4  # times the cache: what is touched between two uses of an array
_WARM = 0.5  # of the cache at most: what stays in it
_GRAPH_US = 2000.0  # that one graph should take at least: events tell half a microsecond
_WARM_UP = 2
_LARGE_COPY = 8  # times the cache


class WrongAnswer(Exception):
    """What launches wrote while they were timed; `wrong_bytes` of it."""

    def __init__(self, wrong_bytes: int) -> None:
        super().__init__(f"{wrong_bytes} bytes are wrong")
        self.wrong_bytes = wrong_bytes


def times_of(driver: Driver, case: Case, function: object, values: tuple[np.ndarray, ...], repeat: int) -> list[Times]:
    """Cold, and warm where the arrays fit.   WrongAnswer: by a launch that was timed."""
    size, cache = case.bytes_in + case.bytes_out, driver.l2_bytes
    found = [_times(driver, case, function, values, repeat, "cold", max(2, -(-_COLD * cache // size)))]
    if size <= _WARM * cache:
        found.append(_times(driver, case, function, values, repeat, "warm", 1))
    return found


def _times(driver: Driver, case: Case, function: object, values: tuple[np.ndarray, ...], repeat: int, cache: str, sets: int) -> Times:
    placed = place(driver, case, function, values, sets)
    launches = placed.launches()
    ends = [(driver.allocate(case.bytes_out), driver.allocate(case.bytes_out)) for _ in launches]
    copies = [partial(driver.copy, target, source, case.bytes_out) for target, source in ends]
    try:
        with driver.timed(_enough(driver, launches)) as kernel, driver.timed(_enough(driver, copies)) as copy:
            turns = [(kernel(), copy()) for _ in range(_WARM_UP + repeat)][_WARM_UP:]
        if wrong := placed.wrong_bytes():
            raise WrongAnswer(wrong)
    finally:
        driver.free()
    return Times(cache=cache, sets=sets, kernel=tuple(each[0] for each in turns), copy=tuple(each[1] for each in turns))


def _enough(driver: Driver, calls: Sequence[Callable[[], None]]) -> list[Callable[[], None]]:
    """All calls so many times over that they take long enough."""
    with driver.timed(calls) as once:
        once()
        took = once() * len(calls)
    return list(calls) * max(1, round(_GRAPH_US / took))


def copy_speed(driver: Driver, repeat: int) -> float:
    """GB/s, bytes read and bytes written, of a copy much larger than the cache."""
    size = _LARGE_COPY * driver.l2_bytes
    try:
        source, target = driver.allocate(size), driver.allocate(size)
        driver.fill(source, 0x5A, size)
        with driver.timed([partial(driver.copy, target, source, size)] * 4) as copy:
            took = [copy() for _ in range(_WARM_UP + repeat)][_WARM_UP:]
    finally:
        driver.free()
    return 2 * size / median(took) / 1e3
