"""The tests run on this checkout's code, with as many threads as this process may use, and get real networks by name."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from scripts.models.network import Network

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"tvm_rsq": "tvm_rsq", "tvm_rsq.passes": "passes", "tvm_rsq.targets": "targets"}

# before tvm and torch are imported, since both read it once
_cores, _workers = len(os.sched_getaffinity(0)), os.environ.get("PYTEST_XDIST_WORKER_COUNT")
for _variable in ("TVM_NUM_THREADS", "OMP_NUM_THREADS"):
    if _workers:  # side by side, each has its share; what it inherits was meant for all of them
        os.environ[_variable] = str(max(1, _cores // int(_workers)))
    os.environ.setdefault(_variable, str(_cores))
os.environ.pop("COLUMNS", None)  # xdist's workers have it, and tables would be cut to it
# Times of kernels that tests measure are no one else's.
os.environ["TVM_RSQ_TIMINGS"] = str(Path(tempfile.mkdtemp(prefix="tvm-rsq-test-")) / "timings.jsonl")


def pytest_sessionstart() -> None:
    """With another checkout installed, tvm_rsq would come from here and tvm_rsq.passes from there: tests of the wrong code."""
    for package, folder in FOLDERS.items():
        found = Path(importlib.import_module(package).__file__).resolve().parent
        if found != ROOT / folder:
            pytest.exit(f"{package} is imported from {found}, expected {ROOT / folder}; run: pip install -e {ROOT}", returncode=2)


@pytest.fixture(scope="session")
def real_network() -> Callable[[str], Network]:
    """`real_network("mobilenetv2")` -> Network of scripts.models; skips the test when its files are not in the cache."""
    from scripts.models.fetch import is_cached
    from scripts.models.registry import load
    from scripts.models.sources import SOURCES

    def get(name: str) -> Network:
        if name in SOURCES and not is_cached(name):
            pytest.skip(f"{name} is not in the cache; run: scripts/fetch_models {name}")
        return load(name)

    return get
