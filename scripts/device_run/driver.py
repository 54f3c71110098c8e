"""NVIDIA's driver through ctypes: memory, kernels out of a cubin, graphs of launches, and events to time them by."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p

import numpy as np

LIBRARY = "libcuda.so.1"
# CUdevice_attribute and other constants of cuda.h
_L2_BYTES, _MULTIPROCESSORS, _MAJOR, _MINOR = 38, 16, 75, 76
_DYNAMIC_SHARED = 8
_STATIC_SHARED_LIMIT = 48 * 1024
_CAPTURE_THREAD_LOCAL = 1


class CudaError(Exception):
    """The driver refused, or there is none; the message is one line."""


class Driver:
    """One GPU, the first, and one stream of it. Everything runs in that stream, and what is allocated stays until `free`."""

    def __init__(self, library: str = LIBRARY) -> None:
        """CudaError: no driver, or no GPU."""
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise CudaError(f"{error}; run this on a machine with an NVIDIA GPU and its driver") from error
        self._call("cuInit", c_uint(0))
        self._device = self._out(c_int, "cuDeviceGet", c_int(0))
        context = self._out(c_void_p, "cuDevicePrimaryCtxRetain", self._device)
        self._call("cuCtxSetCurrent", context)
        self._stream = self._out(c_void_p, "cuStreamCreate", c_uint(0))
        self._memory: list[int] = []

    def _call(self, name: str, *arguments: object) -> None:
        if code := getattr(self._library, name)(*arguments):
            text = c_char_p()
            self._library.cuGetErrorName(c_int(code), byref(text))
            raise CudaError(f"{name} failed with {code}, {(text.value or b'unknown').decode()}")

    def _out(self, kind: type, name: str, *arguments: object) -> object:
        """What a function writes through its first parameter."""
        value = kind()
        self._call(name, byref(value), *arguments)
        return value

    def _attribute(self, which: int) -> int:
        return self._out(c_int, "cuDeviceGetAttribute", c_int(which), self._device).value

    @property
    def name(self) -> str:
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, c_int(256), self._device)
        return text.value.decode()

    @property
    def bus_id(self) -> str:
        text = ctypes.create_string_buffer(32)
        self._call("cuDeviceGetPCIBusId", text, c_int(32), self._device)
        return text.value.decode()

    @property
    def cuda_version(self) -> str:
        """The newest that the driver knows."""
        version = self._out(c_int, "cuDriverGetVersion").value
        return f"{version // 1000}.{version % 1000 // 10}"

    @property
    def capability(self) -> tuple[int, int]:
        return self._attribute(_MAJOR), self._attribute(_MINOR)

    @property
    def l2_bytes(self) -> int:
        return self._attribute(_L2_BYTES)

    @property
    def multiprocessors(self) -> int:
        return self._attribute(_MULTIPROCESSORS)

    def allocate(self, nbytes: int) -> int:
        pointer = self._out(c_uint64, "cuMemAlloc_v2", c_size_t(nbytes)).value
        self._memory.append(pointer)
        return pointer

    def free(self) -> None:
        """All that was allocated."""
        for pointer in self._memory:
            self._call("cuMemFree_v2", c_uint64(pointer))
        self._memory.clear()

    def upload(self, pointer: int, values: np.ndarray) -> None:
        values = np.ascontiguousarray(values)
        self._call("cuMemcpyHtoD_v2", c_uint64(pointer), c_void_p(values.ctypes.data), c_size_t(values.nbytes))

    def download(self, pointer: int, nbytes: int) -> np.ndarray:
        """uint8"""
        self.synchronize()
        values = np.empty(nbytes, np.uint8)
        self._call("cuMemcpyDtoH_v2", c_void_p(values.ctypes.data), c_uint64(pointer), c_size_t(nbytes))
        return values

    def fill(self, pointer: int, byte: int, nbytes: int) -> None:
        self._call("cuMemsetD8Async", c_uint64(pointer), ctypes.c_ubyte(byte), c_size_t(nbytes), self._stream)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        self._call("cuMemcpyDtoDAsync_v2", c_uint64(target), c_uint64(source), c_size_t(nbytes), self._stream)

    def load(self, cubin: bytes) -> object:
        return self._out(c_void_p, "cuModuleLoadData", c_char_p(cubin))

    def function(self, module: object, symbol: str, shared_bytes: int) -> object:
        found = self._out(c_void_p, "cuModuleGetFunction", module, c_char_p(symbol.encode()))
        if shared_bytes > _STATIC_SHARED_LIMIT:
            self._call("cuFuncSetAttribute", found, c_int(_DYNAMIC_SHARED), c_int(shared_bytes))
        return found

    def launch(self, function: object, grid: Sequence[int], block: Sequence[int], shared_bytes: int, pointers: Sequence[int]) -> None:
        values = [c_uint64(pointer) for pointer in pointers]
        parameters = (c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        sizes = map(c_uint, (*grid, *block, shared_bytes))
        self._call("cuLaunchKernel", function, *sizes, self._stream, parameters, c_void_p())

    def synchronize(self) -> None:
        self._call("cuStreamSynchronize", self._stream)

    @contextmanager
    def timed(self, calls: Sequence[Callable[[], None]]) -> Iterator[Callable[[], float]]:
        """A function that runs all calls one after another as one graph and returns the microseconds of one of them, their mean.

        A graph, as Python cannot launch small kernels as fast as a GPU runs them.
        """
        self._call("cuStreamBeginCapture_v2", self._stream, c_int(_CAPTURE_THREAD_LOCAL))
        for call in calls:
            call()
        graph = c_void_p()
        self._call("cuStreamEndCapture", self._stream, byref(graph))
        run = self._out(c_void_p, "cuGraphInstantiateWithFlags", graph, c_uint64(0))
        start, end = (self._out(c_void_p, "cuEventCreate", c_uint(0)) for _ in range(2))

        def measure() -> float:
            self._call("cuEventRecord", start, self._stream)
            self._call("cuGraphLaunch", run, self._stream)
            self._call("cuEventRecord", end, self._stream)
            self._call("cuEventSynchronize", end)
            return self._out(c_float, "cuEventElapsedTime", start, end).value * 1e3 / len(calls)

        try:
            yield measure
        finally:
            for event in (start, end):
                self._call("cuEventDestroy_v2", event)
            self._call("cuGraphExecDestroy", run)
            self._call("cuGraphDestroy", graph)
