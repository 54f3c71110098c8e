"""Weights that every call reads once, from memory: in several streams side by side, each asked for ahead.

    one after the other    r0 s0 t0  r1 s1 t1  r2 s2 t2  ...      a run of the loop reads r s t
    in streams             r0 r1 r2 ...  s0 s1 s2 ...  t0 t1 t2 ...

One core has few lines under way when it reads one address after the other, fewest where the CPU's own prefetching stops, at every page.
(Loops in C of a 4096x4096 layer, AVX-512 with VNNI, tried before this was written: 4-bit codes in one stream, 10 GB/s; asked for 2048 bytes
ahead, 12.7; in 8 streams, 12.3; both, 14.6. int8 in one stream 15.1, in 8 streams 15.9; reading alone, 15.4. What the kernels reach is in
docs/benchmarks.md.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.ir import Expr

from tvm_rsq.targets.generic.prefetch import FIRST_LEVEL, LINE_BYTES, prefetch
from tvm_rsq.targets.workload import Conv2DWorkload

_CACHED = 1 << 20  # weights that stay near from call to call
_AHEAD_BYTES = 4096  # of all streams together; 3072 to 6144 are as fast
_MOST = 8  # streams a multiple of a page apart share a set of the first-level cache, of which a line each has to stay


def waits_for_memory(w: Conv2DWorkload) -> bool:
    """Whether every weight is read once, and there are more than caches hold."""
    weights = w.out_channels * w.kernel[0] * w.kernel[1] * w.in_channels // w.groups
    return w.batch * w.out_height * w.out_width == 1 and weights > _CACHED


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Each of `runs` runs of a tap reads `count` pieces of `size` values; value_bytes: of one value"""

    count: int
    runs: int
    size: int
    value_bytes: int

    @property
    def pay(self) -> bool:
        """Whether there is something to ask for ahead, no line of it twice, and no more streams than a cache can hold lines of."""
        return 1 <= self.count <= _MOST and self.runs > self._ahead and self.size * self.value_bytes >= LINE_BYTES

    def starts(self, tap: Expr, run: Expr | int) -> list[Expr]:
        """Where the pieces of a run are.   tap: index of the tap's first value"""
        return [tap + (stream * self.runs + run) * self.size for stream in range(self.count)]

    def ask_ahead(self, weight: Expr, tap: Expr, run: Expr | int) -> None:
        """Emit: what a later run will read; near the end, what is there already."""
        line = LINE_BYTES // self.value_bytes
        for start in self.starts(tap, tirx.min(run + self._ahead, self.runs - 1)):
            for at in range(0, self.size, line):
                prefetch(weight, start + at, FIRST_LEVEL)

    def arranged(self, taps: np.ndarray) -> np.ndarray:
        """(taps, pieces, ...), whole runs one after the other and then the rest of the tap -> the runs in streams, where that pays."""
        if not self.pay:
            return taps
        whole = self.runs * self.count
        runs = taps[:, :whole].reshape(len(taps), self.runs, self.count, *taps.shape[2:])
        return np.concatenate([np.swapaxes(runs, 1, 2).reshape(taps[:, :whole].shape), taps[:, whole:]], axis=1)

    @property
    def _ahead(self) -> int:
        """Runs."""
        return max(1, _AHEAD_BYTES // (self.count * self.size * self.value_bytes))
