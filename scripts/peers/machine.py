"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tvm_rsq.targets.host import host_cores, host_features


def machine_facts(packages: Sequence[str] = ("apache-tvm", "onnxruntime", "openvino", "torch")) -> dict[str, Any]:
    """CPU, cores that this process may use, instruction sets, load, and versions of what was compared."""
    return {
        "cpu": _cpu_name(), "cores": host_cores(), "features": sorted(host_features()), "load": list(os.getloadavg()),
        "system": platform.platform(), "python": platform.python_version(), "versions": {name: _version(name) for name in packages},
    }  # fmt: skip


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
