"""Arrays between pages that nobody may touch: a kernel that reads or writes beyond them ends the process."""

from __future__ import annotations

import ctypes
import mmap
from typing import Literal

import numpy as np

_PAGE = mmap.PAGESIZE
_NONE = 0
_ALIGNED = 16  # bytes, which is what the widest load wants

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class Guarded:
    """A copy of `array`, which begins with its page or, but for what aligns it, ends with it. Free it with `free`.

    address  of its first byte
    """

    def __init__(self, array: np.ndarray, place: Literal["begins", "ends"]) -> None:
        self._array = array
        room = max(1, -(-array.nbytes // _PAGE)) * _PAGE
        self._size = room + 2 * _PAGE
        self._start = _libc.mmap(None, self._size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        for guard in (self._start, self._start + _PAGE + room):
            if _libc.mprotect(guard, _PAGE, _NONE):
                raise OSError(ctypes.get_errno(), "mprotect")
        taken = -(-array.nbytes // _ALIGNED) * _ALIGNED
        self.address = self._start + _PAGE + (room - taken if place == "ends" else 0)
        ctypes.memmove(self.address, array.ctypes.data, array.nbytes)

    def value(self) -> np.ndarray:
        """As it is now, a copy."""
        held = (ctypes.c_char * self._array.nbytes).from_address(self.address)
        return np.frombuffer(held, self._array.dtype).reshape(self._array.shape).copy()

    def free(self) -> None:
        _libc.munmap(self._start, self._size)
