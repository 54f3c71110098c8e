"""How the threads of a GPU share the expansion of codes, and the order of codes that goes with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class ExpandSchedule:
    """A thread takes `width` neighbouring bytes of each row of one group and makes all weights of them; then it is done.

    width    4, 8 or 16, one load. So many threads read neighbouring bytes that a row's part of a group is a whole line of the cache
    lanes    bytes of a row in a group
    threads  of a block
    """

    width: int
    lanes: int = 128
    threads: int = 256

    def stored(self, dtype: str) -> int:
        """Weights that one store takes: of two vectors, 16 bytes at most."""
        return min(2 * self.width, 16 // np.dtype(dtype).itemsize)

    def order(self, each: np.ndarray, stored: int) -> np.ndarray:
        """(groups, vectors, lanes) in the order of memory -> in the order in which they are packed.

        What a thread finds for a row's bytes is in turns of two vectors. What threads write with their i-th stores is side by side.
        """
        groups, vectors, lanes = each.shape
        apart = each.reshape(groups, vectors // 2, 2 * self.width // stored, lanes // self.width, stored // 2, 2)
        return apart.transpose(0, 1, 5, 3, 2, 4).reshape(each.shape)


# Measured on an H200, see docs/measurements/cuda.md. Fewer bytes in flight in a thread, as with 4 of the one row of 4-bit codes, take 1.17
# times as long; with more there are fewer threads to wait for memory, and a thread that makes several groups in turn waits for each.
SCHEDULES = {3: ExpandSchedule(4), 4: ExpandSchedule(8), 6: ExpandSchedule(8)}
