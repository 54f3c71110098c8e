"""Latency of several builds, measured in turns in one process, so that a slow moment of the machine hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev

import numpy as np

from tvm_rsq.model import InputSpec
from tvm_rsq.progress import Progress, ProgressCallback, silent

UNSTABLE = 0.1  # standard deviation over mean from which a measurement is called unstable (pyperf's rule)


def measure(
    builds: Mapping[str, Callable[[], object]],
    *,
    repeat: int = 50,
    warmup: int = 5,
    progress: ProgressCallback = silent,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, tuple[float, ...]]:
    """Build -> `repeat` wall-clock times of one call in microseconds, after `warmup` calls of each. The order rotates every round."""
    names = list(builds)
    times: dict[str, list[float]] = {name: [] for name in names}
    for i in range(warmup + repeat):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            begun = clock_ns()
            builds[name]()
            spent = clock_ns() - begun
            if i >= warmup:
                times[name].append(spent / 1e3)
        progress(Progress(stage="measure", done=i + 1, total=warmup + repeat))
    return {name: tuple(found) for name, found in times.items()}


def is_unstable(times_us: Sequence[float]) -> bool:
    """Whether the spread is so large that a difference of a few percent means nothing."""
    return len(times_us) > 1 and stdev(times_us) >= UNSTABLE * mean(times_us)


def random_inputs(specs: Sequence[InputSpec], seed: int) -> tuple[np.ndarray, ...]:
    """One N(0, 1) array per input, of its shape and dtype."""
    generator = np.random.default_rng(seed)
    return tuple(generator.standard_normal(spec.shape).astype(spec.dtype) for spec in specs)
