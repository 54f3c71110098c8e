"""Times kernels in this process: build with LLVM's JIT, no linker, no worker.

MetaSchedule's LocalBuilder and LocalRunner start worker processes that import TVM's tensor intrinsics again for every batch; that costs
more than everything that is measured.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import tvm
from tvm.ir import IRModule

from tvm_rsq.environment_variable import environment_variable
from tvm_rsq.errors import TargetError
from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.device_code import device_code
from tvm_rsq.targets.host import host_cores
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.spec import TargetSpec, host_supports
from tvm_rsq.threads import VARIABLE
from tvm_rsq.tuning.kernel_arguments import kernel_arguments
from tvm_rsq.tuning.task import TuningTask

log = logging.getLogger(__name__)

_SLICE_S = 3e-3  # one sample runs so long, or one call where that is longer
_COLD_BYTES = 8e6  # copies of the weights together: more than the second-level cache of any core holds
_MOST_COPIES = 64
_KEPT_BYTES = 512e6  # of the arguments of kernels that may be asked for again


class FailedOnBoard(RuntimeError):
    """A board does not load or run a kernel that was built here."""


class Runner(Protocol):
    """Times the kernels of a task."""

    def times(self, task: TuningTask, choices: Sequence[Choice], rounds: int) -> list[list[float]]:
        """For each choice, `rounds` samples of the cost of a call, in what the task measures: microseconds on this machine. The choices
        take turns, so that samples of one round can be compared.
        ValueError: a choice that does not fit the workload.
        """
        ...


@dataclass(frozen=True)
class LocalRunner:
    """A Runner on this machine.   TargetError: this machine cannot run code for `spec`."""

    spec: TargetSpec
    _loaded: OrderedDict[tuple[TuningTask, Choice], _LoadedKernel] = field(default_factory=OrderedDict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_runs_here(self.spec)

    def times(self, task: TuningTask, choices: Sequence[Choice], rounds: int) -> list[list[float]]:
        kernels = [self._load(task, choice) for choice in reversed(choices)][::-1]  # the untuned one last, as the one to keep
        found: list[list[float]] = [[] for _ in kernels]
        with environment_variable(VARIABLE, str(task.threads)):  # which TVM's runtime reads at every parallel loop
            for kernel in kernels:
                kernel.warm_up()
            for _ in range(rounds):
                for kernel, samples in zip(kernels, found, strict=True):
                    samples.append(kernel.sample_us())
        return found

    def prepare(self, wanted: Sequence[tuple[TuningTask, Choice]]) -> None:
        """Build kernels side by side, for `times` to find. One that cannot be built is left for `times` to say so."""
        missing = []
        for pair in dict.fromkeys(wanted):
            if pair in self._loaded:
                self._loaded.move_to_end(pair)  # what is wanted again is not to make room
            else:
                missing.append(pair)
        with ThreadPoolExecutor(host_cores()) as pool:  # TVM compiles without Python's lock
            for pair, found in zip(missing, pool.map(lambda pair: self._made(*pair), missing), strict=True):
                if found is not None:
                    self._keep(pair, found)

    def _made(self, task: TuningTask, choice: Choice) -> _LoadedKernel | None:
        try:
            return self._build(task, choice)
        except (ValueError, RuntimeError) as error:  # RuntimeError: TVM's own
            log.debug("%s cannot be built ahead: %s", choice, error)
            return None

    def _load(self, task: TuningTask, choice: Choice) -> _LoadedKernel:
        """The kernel, kept for the next trial: the untuned one takes part in all of a task's, and compiling is most of a trial's cost."""
        found = self._loaded.pop((task, choice), None) or self._build(task, choice)
        self._keep((task, choice), found)
        return found

    def _build(self, task: TuningTask, choice: Choice) -> _LoadedKernel:
        kernel = self.spec.library.conv2d(task.workload, choice)
        device = tvm.runtime.device(self.spec.device)
        return _LoadedKernel(_compile(kernel, self.spec), kernel_arguments(task.workload, kernel), device)

    def _keep(self, pair: tuple[TuningTask, Choice], found: _LoadedKernel) -> None:
        self._loaded[pair] = found
        while len(self._loaded) > 1 and sum(kernel.bytes for kernel in self._loaded.values()) > _KEPT_BYTES:
            self._loaded.popitem(last=False)


def check_runs_here(spec: TargetSpec) -> None:
    """TargetError: this machine cannot run code for `spec`."""
    if lacking := host_supports(spec):
        names = ", ".join(lacking[:4])
        raise TargetError(f"cannot time kernels for {spec.name} here: this machine lacks {names}; measure on one that has it")


class _LoadedKernel:
    """A kernel with its arguments. Its weights rotate among copies: inside a network every other layer's weights pass through the
    second-level cache between two calls, so that weights which are still there would flatter what reads many (Winograd's transformed ones).
    """

    def __init__(self, module: tvm.runtime.Module, arguments: list[tvm.runtime.Tensor], device: tvm.runtime.Device) -> None:
        data, weight, *rest = (array.numpy() for array in arguments)
        copies = max(1, min(_MOST_COPIES, round(_COLD_BYTES / weight.nbytes)))
        self.bytes = sum(array.nbytes for array in (data, *rest)) + weight.nbytes * copies
        self._device = device
        data, *rest = (tvm.runtime.tensor(array, device) for array in (data, *rest))
        weights = [tvm.runtime.tensor(weight, device) for _ in range(copies)]
        self._function = module["main"]
        self._turns = itertools.cycle([(data, each, *rest) for each in weights])
        self._number = 0  # of calls in a sample, not yet known

    def warm_up(self) -> None:
        """Bring the code into the caches, and find out how many calls fill a sample, by single calls: samples would cost as much again.
        The most that was ever found counts, since a busy machine only makes a call look longer.
        """
        most, self._number = self._number, 1
        self._seconds()
        self._number = max(1, most, round(_SLICE_S / max(self._seconds(), 1e-7)))

    def sample_us(self) -> float:
        return self._seconds() * 1e6

    def _seconds(self) -> float:
        begun = time.perf_counter_ns()
        for arguments in itertools.islice(self._turns, self._number):
            self._function(*arguments)
        self._device.sync()
        return (time.perf_counter_ns() - begun) / 1e9 / self._number


def _compile(kernel: Kernel, spec: TargetSpec) -> tvm.runtime.Module:
    module = IRModule({"main": kernel.prim_func.with_attr("global_symbol", "main")})
    target = spec.tvm_target()
    with device_code(spec), target, tvm.transform.PassContext(opt_level=3):
        return tvm.compile(module, target=target).mod
