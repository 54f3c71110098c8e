"""One seed, one plan, one artifact: in one process, in two, on one thread and on two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ABOUT = (
    "A network is quantized and compiled twice in a process, in another process, and with 1 and 2 threads of torch's (OMP_NUM_THREADS; the "
    "number of threads that the plan is decided for, TVM_NUM_THREADS, is part of the question and stays 1). It survives where the plan's "
    "text and the artifact's bytes are the same. Times that decide about levers are measured once and then read from the record, as they "
    "are on a user's machine: another machine, or an emptied record, may decide otherwise."
)
_CHILD = """
import hashlib, json, sys
from pathlib import Path
import tvm_rsq
found = []
for number in range(int(sys.argv[2])):
    module = tvm_rsq.compile(sys.argv[1], config=tvm_rsq.QuantConfig(seed=int(sys.argv[3])), name="net")
    path = Path(sys.argv[4]) / "net.rsq"
    module.save(path)
    found.append([hashlib.sha256(data).hexdigest() for data in (module.plan.to_json().encode(), path.read_bytes())])
print(json.dumps(found))
"""


def comparisons(networks: dict[str, Path], seed: int, folder: Path) -> Iterator[tuple[str, str]]:
    """(what is compared, what differs, "" if nothing)."""
    for name, path in networks.items():
        _run(path, 1, 1, seed, folder)  # so that all read the same times
        first, again = _run(path, 2, 1, seed, folder)
        yield f"{name}, twice in a process", _difference(first, again)
        yield f"{name}, in another process", _difference(first, *_run(path, 1, 1, seed, folder))
        yield f"{name}, with 2 threads", _difference(first, *_run(path, 1, 2, seed, folder))


def _run(network: Path, times: int, threads: int, seed: int, folder: Path) -> list[list[str]]:
    environment = {
        **os.environ, "OMP_NUM_THREADS": str(threads), "TVM_NUM_THREADS": "1", "TVM_RSQ_TIMINGS": str(folder / "timings.jsonl"),
    }  # fmt: skip
    command = [sys.executable, "-c", _CHILD, str(network), str(times), str(seed), str(folder)]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def _difference(one: list[str], other: list[str]) -> str:
    return ", ".join(what for what, a, b in zip(("the plan", "the artifact"), one, other, strict=True) if a != b)


