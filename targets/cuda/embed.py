"""Machine code in the library that TVM exports, whether or not this machine has a GPU.

With a CUDA runtime, TVM asks a function for the machine code of its source as soon as there is any. Without one, it keeps the source in the
library, which whoever loads it would have to compile; but it lets another function look at that source first, and keeps what that returns:
here, machine code. Such a library still says that it is source, in four letters, which are changed at the end: a runtime loads whatever it
does not know as source.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import tvm
import tvm_ffi

from tvm_rsq.errors import TargetError

_POSTPROC, _COMPILE = "tvm_callback_cuda_postproc", "tvm_callback_cuda_compile"
_SOURCE, _MACHINE_CODE = (struct.pack("<Q", 4) + word for word in (b"cuda", b"fatb"))


@dataclass
class Build:
    """made: the machine code of every module of kernels that has to be declared; failed: why there is none"""

    compile_source: Callable[[str], bytes]
    made: list[bytes] = field(default_factory=list)
    failed: Exception | None = None

    def compiled(self, source: str) -> bytes:
        try:
            return self.compile_source(source)
        except Exception as error:  # TVM would make a RuntimeError of it
            self.failed = error
            raise


_builds: dict[int, Build] = {}  # by thread: the functions are the whole process's, which may have builds that are not ours
_before: dict[str, Callable[..., Any] | None] = {}
_registering = threading.Lock()


@contextmanager
def machine_code(compile_source: Callable[[str], bytes]) -> Iterator[Build]:
    """A context in which this thread's builds of TVM get machine code by `compile_source`, whose errors are raised as they are."""
    _register()
    build = _builds[threading.get_ident()] = Build(compile_source)
    try:
        yield build
    except RuntimeError as error:
        if build.failed is not None:
            raise build.failed from error
        raise
    finally:
        del _builds[threading.get_ident()]


def declare(library: bytes, made: list[bytes]) -> bytes:
    """The exported library, which says of each of `made` that it is machine code.   TargetError: it does not hold them as expected"""
    for code in made:
        at = library.find(code)
        start = library.rfind(_SOURCE, 0, at)
        if at < 0 or start < 0:
            raise TargetError("TVM exported its CUDA kernels in an unknown form; use the version of TVM that constraints.txt names")
        library = library[:start] + _MACHINE_CODE + library[start + len(_SOURCE) :]
    return library


def _register() -> None:
    with _registering:
        if _before:
            return
        for name, function in ((_POSTPROC, _postprocessed), (_COMPILE, _compiled)):
            _before[name] = tvm_ffi.get_global_func(name, allow_missing=True)
            tvm_ffi.register_global_func(name, function, override=True)


def _postprocessed(source: str, *rest: Any) -> str | bytes:
    build = _builds.get(threading.get_ident())
    if build is None:
        before = _before[_POSTPROC]
        return source if before is None else before(source, *rest)
    if tvm.runtime.enabled("cuda"):  # which asks for machine code by itself
        return source
    build.made.append(build.compiled(source))
    return build.made[-1]


def _compiled(source: str, *rest: Any) -> Any:
    build = _builds.get(threading.get_ident())
    if build is not None:
        return bytearray(build.compiled(source))
    before = _before[_COMPILE]
    if before is None:
        raise RuntimeError(f"TVM has no {_COMPILE}; import tvm.support.nvcc")
    return before(source, *rest)
