"""What NVIDIA's management library says about the GPU: its driver, and how fast it runs when it is busy."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int, c_uint, c_void_p
from typing import Any

from scripts.device_run.driver import Driver

_SM, _MEMORY = 1, 2  # nvmlClockType_t
_CLOCKS = {
    "sm_mhz": ("nvmlDeviceGetClockInfo", _SM),
    "memory_mhz": ("nvmlDeviceGetClockInfo", _MEMORY),
    "sm_max_mhz": ("nvmlDeviceGetMaxClockInfo", _SM),
}
_COPY, _COPIES = 8, 200  # times the cache; some tens of milliseconds of work


def clocks_when_busy(driver: Driver) -> dict[str, Any]:
    """{"driver", "sm_mhz", "memory_mhz", "sm_max_mhz"}, read while copies run; None for what the machine does not say."""
    size = _COPY * driver.l2_bytes
    try:
        source, target = driver.allocate(size), driver.allocate(size)
        for _ in range(_COPIES):
            driver.copy(target, source, size)
        return _read(driver.bus_id)
    finally:
        driver.synchronize()
        driver.free()


def _read(bus_id: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("driver", *_CLOCKS))
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return nothing
    handle, text = c_void_p(), ctypes.create_string_buffer(96)
    if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByPciBusId_v2(bus_id.encode(), byref(handle)):
        return nothing
    driver = None if library.nvmlSystemGetDriverVersion(text, c_uint(96)) else text.value.decode()
    return {"driver": driver, **{name: _clock(library, call, handle, kind) for name, (call, kind) in _CLOCKS.items()}}


def _clock(library: ctypes.CDLL, call: str, handle: c_void_p, kind: int) -> int | None:
    value = c_uint()
    return None if getattr(library, call)(handle, c_int(kind), byref(value)) else value.value
