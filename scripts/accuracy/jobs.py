"""Rows one after another in this process, or side by side in worker processes that share the cores."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import TypeVar

import torch

from tvm_rsq.targets.host import host_cores
from tvm_rsq.threads import VARIABLE

Result = TypeVar("Result")
_THREADS = ("OMP_NUM_THREADS", VARIABLE)


def run_all(function: Callable[..., Result], calls: Iterable[tuple], jobs: int) -> Iterator[Result]:
    """function(*call) for every call; results as they come, in any order with several jobs.

    jobs  1: here. More: so many processes, each with its share of the cores as threads of torch and TVM
    What a call raises is raised here, and calls that have not begun are not begun.
    """
    if jobs == 1:
        yield from (function(*call) for call in calls)
        return
    threads = max(1, host_cores() // jobs)
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))  # read when a worker starts
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,))
    try:
        futures: list[Future[Result]] = [pool.submit(function, *call) for call in calls]
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
