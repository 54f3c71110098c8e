"""A kernel on a board, with its arguments there."""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from statistics import median
from typing import Any

import tvm

from tvm_rsq.remote.board_session import BoardSession
from tvm_rsq.remote.counts import InstructionCounts, measure
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.tuning.kernel_arguments import kernel_arguments

_CALLS = 8  # of a sample, each with other weights
_COLD_BYTES = 8e6  # copies of the weights together, as in LocalRunner, for the same reason
_KEPT_BYTES = 128e6  # on a board, of kernels that may be asked for again


class RemoteKernel:
    """A library that holds `kernel` as main, loaded in `session`, for a device of this kind ("cpu", "cuda").

    DeviceError, RuntimeError: as BoardSession.load, in its `do`.
    """

    def __init__(
        self, session: BoardSession, library: bytes, kernel: Kernel, workload: Conv2DWorkload, *, copies: bool, kind: str = "cpu"
    ) -> None:
        self._session, self._there = session, session.room()
        data, weight, *rest = kernel_arguments(workload, kernel)
        weights = max(1, min(_CALLS, round(_COLD_BYTES / weight.numpy().nbytes))) if copies else 1
        self.bytes = sum(each.numpy().nbytes for each in (data, *rest)) + weights * weight.numpy().nbytes

        def load(rpc: tvm.rpc.RPCSession) -> None:
            device = rpc.device(kind)
            module = session.load(library)
            there: list[Any] = [tvm.runtime.tensor(each.numpy(), device) for each in (data, *rest)]
            turns = [(there[0], tvm.runtime.tensor(weight.numpy(), device), *there[1:]) for _ in range(weights)]
            self._there |= {
                "call": module["main"], "time": module.time_evaluator("main", device, number=1, repeat=1), "turns": itertools.cycle(turns),
            }  # fmt: skip

        session.do(load)

    def sample_us(self) -> float:
        """Microseconds of a call by the board's clock, the median of several: data is warm, and weights are cold."""
        turns, timed = self._there["turns"], self._there["time"]
        return self._session.do(lambda _rpc: median(timed(*next(turns)).results[0] for _ in range(_CALLS)) * 1e6)

    def counts(self) -> InstructionCounts:
        """What a call executes, the second: a first one may do more.   DeviceError: the board counts nothing"""

        def count(rpc: tvm.rpc.RPCSession) -> InstructionCounts:
            call, arguments = self._there["call"], next(self._there["turns"])
            call(*arguments)
            return measure(rpc, lambda: call(*arguments))

        return self._session.do(count)

    def release(self) -> None:
        """Free what it takes on the board."""
        self._session.do(lambda _rpc: self._there.clear())


def kept_kernel(
    session: BoardSession, name: Hashable, library: bytes, kernel: Kernel, workload: Conv2DWorkload, *, copies: bool, kind: str = "cpu"
) -> RemoteKernel:
    """The kernel of that name, loaded in this session once: the untuned one takes part in all of a task's trials."""
    kept = session.kept
    kept[name] = kept.pop(name, None) or RemoteKernel(session, library, kernel, workload, copies=copies, kind=kind)
    while len(kept) > 1 and sum(each.bytes for each in kept.values()) > _KEPT_BYTES:
        kept.pop(next(iter(kept))).release()
    return kept[name]
