"""KernelLibrary wrappers: one that makes kernels as a tuner decided, one that notes what a network asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.kernel_library import KernelLibrary
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.tuning.task import normalise


class TunedLibrary:
    """`library` with the untuned choices replaced.   choices: normalised workload -> choice; others stay untuned."""

    def __init__(self, library: KernelLibrary, choices: Mapping[Conv2DWorkload, Choice]) -> None:
        self._library = library
        self._choices = choices

    def conv2d(self, w: Conv2DWorkload, choice: Choice | None = None) -> Kernel:
        return self._library.conv2d(w, choice or self._choices.get(normalise(w)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)


class RecordingLibrary:
    """`library`, with the convolutions that were asked for in `workloads`, in order."""

    def __init__(self, library: KernelLibrary) -> None:
        self._library = library
        self.workloads: list[Conv2DWorkload] = []

    def conv2d(self, w: Conv2DWorkload, choice: Choice | None = None) -> Kernel:
        self.workloads.append(w)
        return self._library.conv2d(w, choice)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)
