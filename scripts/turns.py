"""Times of several builds in turns, such that none is disturbed by the one before it, and their ratio within a turn."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from tvm_rsq.benchmark import measure

# Calls in a row of one build, after those that bring its weights back into the caches.
_IN_A_ROW, _WARMUP = 5, 2
# Worker threads spin for a while after their last task, TVM's for some 0.2 s, and take a core from whoever runs next.
_SLICE_S, _IDLE, _PATIENCE_S = 0.02, 0.1, 2.0


def in_turns(
    builds: Mapping[str, Callable[[], object]], repeat: int, *, quiet: Callable[[], None] | None = None, seed: int = 0
) -> dict[str, tuple[float, ...]]:
    """Build -> at least `repeat` wall-clock times of one call, in microseconds: A A A B B B C C C, B B B A A A C C C, ...

    The order of every turn is drawn anew: were it always the same, one of ours would follow a peer, whose threads have just been on both
    cores, and the others one of ours.
    quiet  called before every turn; None: nothing runs on between turns, which is so with one thread
    """
    names, order = list(builds), random.Random(seed)
    times: dict[str, tuple[float, ...]] = dict.fromkeys(names, ())
    for _ in range(-(-repeat // _IN_A_ROW)):
        for name in order.sample(names, len(names)):
            if quiet is not None:
                quiet()
            times[name] += measure({name: builds[name]}, repeat=_IN_A_ROW, warmup=_WARMUP)[name]
    return times


def paired_ratio(times: Sequence[float], baseline: Sequence[float]) -> float | None:
    """time / baseline: the median over turns of the ratio of what each took in that turn. None where one was not measured.

    times, baseline  as `in_turns` gives them. Within a turn a machine that others use is about as fast for one as for the other, while
                     two medians over the whole run may come from different minutes of it.
    """
    turns = [
        median(times[i : i + _IN_A_ROW]) / median(baseline[i : i + _IN_A_ROW]) for i in range(0, min(len(times), len(baseline)), _IN_A_ROW)
    ]
    return median(turns) if turns else None


def wait_until_idle() -> None:
    """Return when no thread of this process spins any more, or after two seconds."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        used = time.process_time()
        time.sleep(_SLICE_S)
        if time.process_time() - used < _IDLE * _SLICE_S:
            return


def bound_in_turns(
    builds: Mapping[str, Callable[[], float]], repeat: int, *, quiet: Callable[[], None] | None = None, seed: int = 0
) -> dict[str, tuple[float, ...]]:
    """The same of calls that time themselves, one in a row: each has its own warm-up."""
    names, order = list(builds), random.Random(seed)
    times: dict[str, tuple[float, ...]] = dict.fromkeys(names, ())
    for _ in range(repeat):
        for name in order.sample(names, len(names)):
            if quiet is not None:
                quiet()
            times[name] += (builds[name](),)
    return times
