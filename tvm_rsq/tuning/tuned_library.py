"""KernelLibrary wrappers: one that makes kernels as a tuner decided, one that notes what a network asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm_rsq.errors import ConfigError
from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.kernel_library import KernelLibrary
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.tuning.task import normalise


class TunedLibrary:
    """`library` with the untuned choices replaced.   choices: normalised workload -> choice; others stay untuned.

    `conv2d` raises ConfigError for a choice from a record that no kernel can follow: somebody changed the file.
    """

    def __init__(self, library: KernelLibrary, choices: Mapping[Conv2DWorkload, Choice]) -> None:
        self._library = library
        self._choices = choices

    def conv2d(self, w: Conv2DWorkload, choice: Choice | None = None) -> Kernel:
        found = None if choice is not None else self._choices.get(normalise(w))
        try:
            return self._library.conv2d(w, choice or found)
        except ValueError as error:
            if found is None:
                raise
            raise ConfigError(f"a tuning record cannot be followed ({error}); delete the tuning folder and tune again") from error

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
