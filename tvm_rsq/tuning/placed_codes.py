"""A KernelLibrary wrapper: where codes of weights become weights, as the user says."""

from __future__ import annotations

from typing import Any, Literal, get_args

from tvm_rsq.errors import ConfigError
from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.generic.winograd_tile import WinogradTile
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.kernel_library import KernelLibrary
from tvm_rsq.targets.workload import Conv2DWorkload

Codes = Literal["auto", "load", "kernel"]


def check_codes(codes: object) -> None:
    """ConfigError: not one of Codes."""
    if codes not in get_args(Codes):
        raise ConfigError(f"codes is {codes!r}, expected one of {', '.join(get_args(Codes))}")


class PlacedCodes:
    """`library`, whose kernels take codes ("kernel") or weights that are made of them when the network is loaded ("load").

    Choices that were tuned and are so stay. Depthwise kernels, which have few weights, only know weights.
    """

    def __init__(self, library: KernelLibrary, codes: Literal["load", "kernel"]) -> None:
        self._library, self._codes = library, codes

    def conv2d(self, w: Conv2DWorkload, choice: Choice | None = None) -> Kernel:
        made = self._library.conv2d(w, choice)
        there = made.codes is not None if self._codes == "kernel" else made.expanded > 0
        if choice is not None or not w.code_bits or there:
            return made
        fits = (other for other in self._library.conv2d_space(w) if _place(other) == self._codes)
        other = next(fits, None)
        return made if other is None else self._library.conv2d(w, other)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)


def _place(choice: Choice) -> str:
    if isinstance(choice, WinogradTile):
        return "nowhere"
    return "load" if getattr(choice, "codes", "load") == "load" else "kernel"
