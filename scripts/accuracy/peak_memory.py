"""The most memory that this process holds between two moments."""

from __future__ import annotations

from pathlib import Path

from scripts.compile_time.stages import peak_bytes as since_start

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def restart_peak() -> None:
    """From now on `peak_bytes` counts anew; without /proc, or the right to do so, it goes on counting from the process's start."""
    try:
        _RESET.write_text("5")
    except OSError:
        return


def peak_bytes() -> int:
    """Since `restart_peak`."""
    lines = _STATUS.read_text().splitlines() if _STATUS.is_file() else []
    found = next((line.split() for line in lines if line.startswith("VmHWM:")), None)
    return since_start() if found is None else 1024 * int(found[1])
