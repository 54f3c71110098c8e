"""Many inferences with one module: memory stays as it was, and so do the answers, from several threads at once, too."""

from __future__ import annotations

import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tvm_rsq.compiled_module import CompiledModule

ABOUT = (
    "Inferences with one module, of a few inputs in turns, each answer held to the first one of its input, bit for bit: one after another, "
    "then from 4 threads that call the module at once. Resident memory is read after a warm-up and at the end, and may have grown by a "
    "mebibyte, which an allocator keeps back: a leak of 100 bytes an inference is as much. Both readings count as one case."
)
MOST_GROWTH = 2**20  # bytes
_INPUTS, _WARM_UP, THREADS = 4, 500, 4


def soak(module: CompiledModule, count: int, seed: int, told: Callable[[int], None] = lambda done: None) -> tuple[int, int]:
    """(right answers of `count`, growth of resident memory in bytes), half of them from threads."""
    rng = np.random.default_rng(seed)
    inputs = [[rng.standard_normal(spec.shape, np.float32) for spec in module.inputs] for _ in range(_INPUTS)]
    answers = [np.copy(module.run(*each)) for each in inputs]

    def run(first: int, last: int) -> int:
        right = 0
        for number in range(first, last):
            right += np.array_equal(module.run(*inputs[number % _INPUTS]), answers[number % _INPUTS])
            if number % 1000 == 0:
                told(number)
        return right

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda number: run(number, number + _WARM_UP // THREADS), range(THREADS)):
            pass
        before, alone = resident(), count // 2
        right = run(0, alone)
        bounds = np.linspace(alone, count, THREADS + 1).astype(int)
        right += sum(pool.map(run, bounds[:-1], bounds[1:]))
    return right, resident() - before


def resident() -> int:
    """Bytes of this process's memory that are in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
