"""What a measured time depends on beside the workload and the machine: the version of the kernels and of how they are timed."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import tvm

from tvm_rsq import targets

_MEASURING = ("kernel_arguments.py", "runner.py")


@functools.cache
def kernels_version() -> str:
    """Changes whenever a kernel template, TVM or the way of timing does: what was measured of other code, or otherwise, says nothing of
    this.
    """
    return _version(Path(targets.__path__[0]), Path(__file__).parent)


def _version(templates: Path, tuning: Path) -> str:
    digest = hashlib.sha256(tvm.__version__.encode())
    sources = [(templates, path) for path in sorted(templates.rglob("*.py"))] + [(tuning, tuning / name) for name in _MEASURING]
    for root, path in sources:
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]
