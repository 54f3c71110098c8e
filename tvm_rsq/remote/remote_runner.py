"""Measures kernels on boards: made and linked here, run there.

Times are samples in turns, as in LocalRunner, by the board's clock. Counts are the same in every call: one is enough, and is remembered.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import tvm
from tvm.ir import IRModule

from tvm_rsq.held_folder import scratch_folder
from tvm_rsq.progress import Progress, ProgressCallback
from tvm_rsq.remote import counts, modelled_cycles, remote_kernel
from tvm_rsq.remote.board_pool import BoardPool
from tvm_rsq.remote.board_session import BoardSession, SessionLost, last_line
from tvm_rsq.remote.counts import InstructionCounts
from tvm_rsq.remote.device import RemoteDevice
from tvm_rsq.remote.measures import Measuring, measuring
from tvm_rsq.remote.remote_kernel import RemoteKernel, kept_kernel
from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.device_code import device_code
from tvm_rsq.targets.host import host_cores
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.linker import link_function
from tvm_rsq.tuning.runner import FailedOnBoard
from tvm_rsq.tuning.task import TIME, Machine, TuningTask

log = logging.getLogger(__name__)

_KEPT_LIBRARIES = 256
T = TypeVar("T")

Key = tuple[TuningTask, Choice]


class RemoteRunner:
    """A Runner on the boards of `device`, for several threads: a context, at whose end the boards are given back.

    DeviceError, ConfigError, TargetError: as BoardPool, RemoteDevice.spec and `measuring`, when it is made; DeviceError also when no board
    is left in the middle of the work.
    """

    def __init__(self, device: RemoteDevice, progress: ProgressCallback) -> None:
        self.device, self.spec = device, device.spec()
        self._link = link_function(self.spec)

        def waiting(why: str) -> None:
            progress(Progress(stage="waiting", done=0, total=1, detail=why))

        self._pool = BoardPool(device, waiting)
        self._made: OrderedDict[Key, tuple[bytes, Kernel]] = OrderedDict()
        self._counted: dict[Key, float] = {}
        self._lock = threading.Lock()
        try:
            _ = self._measuring
        except BaseException:
            self._pool.close()
            raise
        self._pool.release()  # others may use the boards until there is something to measure

    @cached_property
    def _measuring(self) -> Measuring:
        return measuring(self.device, self.spec, self._pool.run(lambda session: session.emulated))

    @property
    def machine(self) -> Machine:
        """As records name it: the key stands for the CPU. Another way of measuring is another machine."""
        return Machine(
            cpu=f"{self.device.key} over RPC ({_way()})", measure=self._measuring.measure, at_once=self._pool.size,
            threads=self.device.threads or self.spec.num_cores,
        )  # fmt: skip

    def times(self, task: TuningTask, choices: Sequence[Choice], rounds: int) -> list[list[float]]:
        """As Runner.times, in what `machine` measures.

        ValueError: a choice that does not fit. RuntimeError: it cannot be built, loaded or run. DeviceError: no board is left.
        """
        if self._measuring.measure != TIME:
            return [[self._count(task, choice)] * rounds for choice in choices]
        made = [self._library(task, choice) for choice in choices]

        def measure(session: BoardSession) -> list[list[float]]:
            session.use_threads(task.threads)
            kernels = [
                kept_kernel(session, (task, choice), *library, task.workload, copies=True, kind=self.spec.device)
                for choice, library in zip(choices, made, strict=True)
            ]
            found: list[list[float]] = [[] for _ in kernels]
            for _ in range(rounds):
                for kernel, samples in zip(kernels, found, strict=True):
                    samples.append(kernel.sample_us())
            return found

        return self._run(measure)

    def prepare(self, wanted: Sequence[Key]) -> None:
        """Build kernels side by side, for `times` to find. One that cannot be built is left for `times` to say so."""
        with ThreadPoolExecutor(host_cores()) as pool:  # TVM compiles without Python's lock
            list(pool.map(self._try, dict.fromkeys(wanted)))

    def close(self) -> None:
        """Give the boards back."""
        self._pool.close()

    def __enter__(self) -> RemoteRunner:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _run(self, work: Callable[[BoardSession], T]) -> T:
        """FailedOnBoard, to a tuner a kernel that failed, in place of TVM's errors and of sessions that this work, it seems, has ended."""
        try:
            return self._pool.run(work)
        except (SessionLost, RuntimeError) as error:
            raise FailedOnBoard(last_line(error)) from error

    def _count(self, task: TuningTask, choice: Choice) -> float:
        key = (task, choice)
        if key not in self._counted:
            library, kernel = self._library(task, choice)

            def count(session: BoardSession) -> InstructionCounts:
                return RemoteKernel(session, library, kernel, task.workload, copies=False).counts()

            self._counted[key] = self._measuring.cost(self._run(count))
        return self._counted[key]

    def _library(self, task: TuningTask, choice: Choice) -> tuple[bytes, Kernel]:
        """The shared library of a kernel, kept for the next trial: the untuned one takes part in all of a task's."""
        key = (task, choice)
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        kernel = self.spec.library.conv2d(task.workload, choice)
        made = self._compile(kernel), kernel
        with self._lock:
            self._made[key] = made
            while len(self._made) > _KEPT_LIBRARIES:
                self._made.popitem(last=False)
        return made

    def _compile(self, kernel: Kernel) -> bytes:
        module = IRModule({"main": kernel.prim_func.with_attr("global_symbol", "main")})
        target = self.spec.tvm_target()
        with device_code(self.spec) as finish:
            with target, tvm.transform.PassContext(opt_level=3):
                built = tvm.compile(module, target=target).mod
            return self._exported(built, finish)

    def _exported(self, built: tvm.runtime.Module, finish: Callable[[bytes], bytes]) -> bytes:
        with scratch_folder() as folder:
            path = folder / "kernel.so"
            built.export_library(str(path), fcompile=self._link, workspace_dir=str(folder))
            return finish(path.read_bytes())

    def _try(self, key: Key) -> None:
        try:
            self._library(*key)
        except (ValueError, RuntimeError) as error:  # RuntimeError: TVM's own
            log.debug("%s cannot be built ahead: %s", key[1], error)


def remote_runner(device: RemoteDevice | None, progress: ProgressCallback) -> AbstractContextManager[RemoteRunner | None]:
    """The runner of a device; None, which is this machine, without one."""
    return nullcontext() if device is None else RemoteRunner(device, progress)


@functools.cache
def _way() -> str:
    """Changes with the code that measures: figures of another way say nothing of this."""
    digest = hashlib.sha256()
    for module in (counts, modelled_cycles, remote_kernel):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:8]
