"""Machine code in the library that TVM exports, on a machine without a GPU.

There TVM has no CUDA runtime, and keeps the source of its kernels in the library, which whoever loads it would have to compile. It lets a
function look at that source first, and keeps what that returns: here, machine code. The library still says that it is source, in four
letters, which are changed at the end: a runtime loads whatever it does not know as source.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import tvm_ffi

from tvm_rsq.errors import TargetError

_HOOK = "tvm_callback_cuda_postproc"
_SOURCE, _MACHINE_CODE = (struct.pack("<Q", 4) + word for word in (b"cuda", b"fatb"))
_lock = threading.Lock()  # the hook is the whole process's


@contextmanager
def machine_code(compile_source: Callable[[str], bytes]) -> Iterator[list[bytes]]:
    """A context in which TVM builds; a list that gets the machine code of every module of kernels."""
    made: list[bytes] = []

    def compiled(source: str, _target: object) -> bytes:
        made.append(compile_source(source))
        return made[-1]

    with _lock:
        tvm_ffi.register_global_func(_HOOK, compiled, override=True)
        try:
            yield made
        finally:
            tvm_ffi.registry.remove_global_func(_HOOK)


def declare(library: bytes, made: list[bytes]) -> bytes:
    """The exported library, which says of each of `made` that it is machine code.   TargetError: it does not hold them as expected"""
    for code in made:
        at = library.find(code)
        start = library.rfind(_SOURCE, 0, at)
        if at < 0 or start < 0:
            raise TargetError("TVM exported its CUDA kernels in an unknown form; use the version of TVM that constraints.txt names")
        library = library[:start] + _MACHINE_CODE + library[start + len(_SOURCE) :]
    return library
