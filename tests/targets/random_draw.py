"""What a random workload is drawn with, and what becomes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from exact_reference import quantized
from hypothesis import strategies as st

WIDTHS = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 64, 65)  # of the last axis, around what vectors hold
SCALES = (0.0117, 0.5, 1.0, 3.3)


@dataclass(frozen=True, slots=True)
class Drawn:
    """levels: uint8 arguments, which a library gets in its carrier; rest: the others, behind them; expected: levels, or float32"""

    workload: Any
    levels: list[np.ndarray]
    rest: list[np.ndarray]
    expected: np.ndarray


class Draw:
    """What one example is made of."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.of = lambda *choices: draw(st.sampled_from(choices))
        self.whole = lambda low, high: draw(st.integers(low, high))
        self.flag = lambda: draw(st.booleans())
        self.order = lambda count: tuple(draw(st.permutations(range(count))))
        self.rng = np.random.default_rng(self.whole(0, 2**16))
        self.extreme = self.flag()

    def shape(self, low: int = 1, high: int = 4) -> tuple[int, ...]:
        return (*(self.whole(1, 5) for _ in range(self.whole(low, high) - 1)), self.of(*WIDTHS))

    def image(self) -> tuple[int, ...]:
        return (self.whole(1, 2), self.whole(1, 9), self.whole(1, 9), self.of(*WIDTHS))

    def level(self) -> int:
        return self.of(0, 3, 128, 255)

    def clips(self) -> dict[str, int]:
        return {"qmin": self.of(0, 0, 9), "qmax": self.of(255, 255, 180, 63)}

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return quantized(self.rng, shape, extreme=self.extreme)

    def ends(self) -> dict[str, Any]:
        """How a kernel ends that requantizes, or leaves in float."""
        if self.flag():
            return {"out": "float32", "low": self.of(-math.inf, 0.0, -40.0), "high": self.of(math.inf, 6.0)}
        return {"out": "uint8", **self.clips()}
