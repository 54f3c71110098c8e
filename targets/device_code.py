"""What a device other than the CPU needs besides what TVM makes: machine code in the library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tvm_rsq.targets.cuda import embed, nvcc
from tvm_rsq.targets.spec import TargetSpec


def check_compiler(spec: TargetSpec) -> None:
    """TargetError: the device takes a compiler of its own, which is not installed."""
    if spec.device != "cpu":
        nvcc.find_nvcc()


@contextmanager
def device_code(spec: TargetSpec) -> Iterator[Callable[[bytes], bytes]]:
    """A context in which TVM builds and exports for `spec`; what the exported library has to go through then.

    TargetError: no compiler for the device, before anything is built; or it fails.
    """
    if spec.device == "cpu":
        yield lambda library: library
        return
    check_compiler(spec)
    arch = str(spec.tvm["arch"])
    with embed.machine_code(lambda source: nvcc.fatbin(source, arch)) as build:
        yield lambda library: embed.declare(library, build.made)
