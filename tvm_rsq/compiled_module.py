"""CompiledModule: a library that runs, with the plan and the report it was made with. Needs neither torch nor the network."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax

from tvm_rsq.errors import ArtifactError
from tvm_rsq.held_folder import scratch_folder
from tvm_rsq.inputs import check_inputs
from tvm_rsq.model import InputSpec
from tvm_rsq.passes.lower_islands import EXPAND, KernelCall
from tvm_rsq.plan import QuantPlan
from tvm_rsq.report.data import LayerTime, ReportData
from tvm_rsq.targets.cuda.gpus import described, local_features
from tvm_rsq.targets.host import host_arch, host_features
from tvm_rsq.threads import use_threads

if TYPE_CHECKING:
    import os


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What an artifact holds.

    library   bytes of the shared library
    outputs   in order, called output_0 and so on; () in artifacts that were compiled before they were noted
    calls     the kernels it calls, in order
    target    the TVM target, with its name, architecture and the CPU features its code uses
    plan      None for an FP32 build
    tvm_version, tvm_ffi_version   of the packages that compiled it, whose runtime it needs
    """

    name: str
    library: bytes = field(repr=False)
    inputs: tuple[InputSpec, ...]
    outputs: tuple[InputSpec, ...] = ()
    calls: tuple[KernelCall, ...]
    target: Mapping[str, Any]
    target_name: str
    arch: str
    features: tuple[str, ...]
    plan: QuantPlan | None = None
    report: ReportData | None = None
    tvm_version: str = tvm.__version__
    tvm_ffi_version: str = tvm_ffi.__version__

    @property
    def digest(self) -> str:
        """SHA-256 of the library, its first 16 digits: by it measurements find what they are of."""
        return hashlib.sha256(self.library).hexdigest()[:16]


class CompiledModule:
    """A compiled network. Calls from several threads are made one after another."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self._lock = threading.Lock()
        self._machine: _Machine | None = None
        self._tensors: list[tvm.runtime.Tensor] | None = None

    @property
    def plan(self) -> QuantPlan | None:
        return self.contents.plan

    @property
    def report(self) -> ReportData | None:
        return self.contents.report

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return self.contents.inputs

    @property
    def target(self) -> str:
        return self.contents.target_name

    def with_report(self, report: ReportData) -> CompiledModule:
        """The same library with another report, such as one with measurements."""
        return CompiledModule(replace(self.contents, report=report))

    def run(self, *inputs: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """The network's output, a tuple of several. Inputs are to be finite: integers cannot hold NaN, and the answer would look ordinary.

        InputError: wrong number, shape or dtype of arrays. ArtifactError: the library is for another kind of CPU, or for other inputs.
        """
        arrays = check_inputs(self.inputs, inputs)
        with self._lock:
            if self._tensors is None:  # kept: fresh memory costs as much as the copy
                self._tensors = [tvm.runtime.empty(array.shape, str(array.dtype), self._device()) for array in arrays]
            for tensor, array in zip(self._tensors, arrays, strict=True):
                tensor.copyfrom(array)
            try:
                result = self._vm().run(*self._tensors)
            except (tvm.error.InternalError, TypeError, ValueError) as error:
                why = " ".join(str(error).split())[-200:]
                what = "it may be for other inputs than it says, or the device has no memory left; compile it again, or free memory"
                raise ArtifactError(f"{self.contents.name} does not run ({why}); {what}") from error
            # Copied out before the lock is given up: an output may be an input.
            return result.numpy() if hasattr(result, "numpy") else tuple(part.numpy() for part in result)

    __call__ = run

    def time_us(self, *inputs: np.ndarray, repeat: int = 10, number: int = 1) -> tuple[float, ...]:
        """Microseconds of one inference, `repeat` times the average of `number` calls, without the copies in and out of numpy."""
        device = self._device()
        tensors = [tvm.runtime.tensor(array, device) for array in check_inputs(self.inputs, inputs)]
        with self._lock:
            main = self._vm().run
            main(*tensors)
            times = []
            for _ in range(repeat):
                device.sync()
                start = time.perf_counter_ns()
                for _ in range(number):
                    main(*tensors)
                device.sync()
                times.append((time.perf_counter_ns() - start) / number / 1000)
        return tuple(times)

    def profile(self, *inputs: np.ndarray, repeat: int = 20) -> tuple[LayerTime, ...]:
        """Time of every kernel call inside a whole inference, median of `repeat`, in execution order (operators of float islands too).

        ArtifactError: kernels are started together, as one graph, which has no times of its own inside.
        """
        if self.contents.target["kind"] != "llvm":
            name = self.contents.name
            raise ArtifactError(f"{name} starts its kernels as one graph, which cannot be profiled; use the GPU's own profiler")
        tensors = [tvm.runtime.tensor(array) for array in check_inputs(self.inputs, inputs)]
        with self._lock:
            machine = _load(self.contents)
            seen: list[tuple[str, int]] = []
            started = 0

            def instrument(_function: Any, symbol: str, before: bool, _result: Any, *_args: Any) -> int:
                nonlocal started
                if before:
                    started = time.perf_counter_ns()
                else:
                    seen.append((symbol, time.perf_counter_ns() - started))
                return 0

            machine.run(*tensors)
            machine.vm.set_instrument(instrument)
            runs = []
            for _ in range(repeat):
                seen.clear()
                machine.run(*tensors)
                runs.append([entry for entry in seen if not entry[0].startswith("vm.")])
        return self._layer_times(runs)

    def _layer_times(self, runs: Sequence[Sequence[tuple[str, int]]]) -> tuple[LayerTime, ...]:
        macs = {layer.name: layer.macs for layer in self.plan.layers} if self.plan else {}
        pending = list(self.contents.calls)
        times = []
        for column in zip(*runs, strict=True):
            symbol = column[0][0]
            nanoseconds = median(entry[1] for entry in column)
            # TVM numbers functions of one name: conv2d, conv2d1, ...
            call = pending.pop(0) if pending and re.fullmatch(rf"{pending[0].symbol}_?\d*", symbol) else None
            layer = (call.layer or call.tensor) if call else symbol
            kernel = call.kernel if call else "reshape" if symbol.startswith("reshape") else "float island"
            times.append(LayerTime(layer=layer, kernel=kernel, time_us=nanoseconds / 1000, macs=macs.get(layer, 0)))
        return tuple(times)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one file, atomically, with checksums."""
        from tvm_rsq.artifact import save

        save(self.contents, Path(path))

    def export_c(self, folder: str | os.PathLike[str], *, replace: bool = False) -> tuple[Path, ...]:
        """Write a folder that needs TVM's runtime and no Python: library, C header, C++ runner, Makefile; see c_export.export."""
        from tvm_rsq.c_export.export import export_c

        return export_c(self.contents, Path(folder), replace=replace)

    def _device(self) -> tvm.runtime.Device:
        """ArtifactError: the library is for another machine, which may have such a device."""
        _check_runs_here(self.contents)
        return device_of(self.contents)

    def _vm(self) -> _Machine:
        if self._machine is None:
            self._machine = _load(self.contents)
        return self._machine


def missing_features(contents: Contents) -> list[str]:
    """What the library needs and this machine lacks."""
    if contents.arch != host_arch():
        return [f"a CPU of kind {contents.arch}"]
    return [described(feature) for feature in sorted(set(contents.features) - host_features() - local_features())]


def device_of(contents: Contents) -> tvm.runtime.Device:
    """Where it runs."""
    return tvm.runtime.device(kind_of(contents))


def kind_of(contents: Contents) -> str:
    """Of device, by TVM's name."""
    kind = str(contents.target["kind"])
    return "cpu" if kind == "llvm" else kind


class _Machine:
    """A loaded library with the weights that were made of their codes."""

    def __init__(self, module: tvm.runtime.Module, device: tvm.runtime.Device) -> None:
        self.vm = relax.VirtualMachine(module, device)
        self._main = self.vm["main"]
        self._weights = tuple(self.vm[EXPAND]()) if self.vm.module.implements_function(EXPAND) else ()

    def run(self, *inputs: tvm.runtime.Tensor) -> Any:
        """main: a tensor, or an array of them."""
        return self._main(*inputs, *self._weights)


def _check_runs_here(contents: Contents) -> None:
    if missing := missing_features(contents):
        raise ArtifactError(
            f"{contents.name} was compiled for {contents.target_name} and needs {', '.join(missing[:4])}, which this machine "
            f"({host_arch()}) lacks; compile it for this machine, or run it on its own"
        )


def _load(contents: Contents) -> _Machine:
    _check_runs_here(contents)
    use_threads()
    with scratch_folder() as folder:
        path = folder / "lib.so"
        path.write_bytes(contents.library)
        module = tvm.runtime.load_module(str(path))
        return _Machine(module, device_of(contents))
