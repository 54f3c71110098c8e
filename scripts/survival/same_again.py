"""One seed, one plan, one artifact: in one process, in two, on one thread and on two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ABOUT = (
    "A network is quantized and compiled twice in a process, in another process, and with 1 and 2 threads of torch's (OMP_NUM_THREADS): so "
    "too at effort best, whose images are optimised. Times decide about levers; they are measured once and then read from the record, as "
    "they are on a user's machine, for a number of threads (TVM_NUM_THREADS) that is part of the question: another machine, or an emptied "
    "record, may decide otherwise. Without levers that number is changed, too, and the record emptied. It survives where the plan's text "
    "and the artifact's bytes are the same. Not tried are learned roundings, below 8 bits at effort best: their gradients are sums of "
    "torch's, thread by thread, and the same for one number of threads."
)
_CHILD = """
import hashlib, json, sys
from pathlib import Path
import tvm_rsq
found = []
for number in range(int(sys.argv[2])):
    config = tvm_rsq.QuantConfig(seed=int(sys.argv[3]), **json.loads(sys.argv[5]))
    module = tvm_rsq.compile(sys.argv[1], config=config, name="net")
    path = Path(sys.argv[4]) / "net.rsq"
    module.save(path)
    found.append([hashlib.sha256(data).hexdigest() for data in (module.plan.to_json().encode(), path.read_bytes())])
print(json.dumps(found))
"""


def comparisons(networks: dict[str, Path], seed: int, folder: Path) -> Iterator[tuple[str, str]]:
    """(what is compared, what differs, "" if nothing)."""
    for name, path in networks.items():
        runs = _Runs(network=path, seed=seed, folder=folder)
        runs.hashes()  # so that all read the same times
        first, again = runs.hashes(times=2)
        yield f"{name}, twice in a process", _difference(first, again)
        yield f"{name}, in another process", _difference(first, *runs.hashes())
        yield f"{name}, with 2 threads", _difference(first, *runs.hashes(threads=2))
        plain = replace(runs, config={"levers": "none"})
        other = replace(plain, kernel_threads=2, timings="others.jsonl")
        yield f"{name}, without levers, compiled for 2 threads, nothing timed", _difference(*plain.hashes(), *other.hashes(threads=2))
        best = replace(runs, config={"levers": "none", "effort": "best"})
        yield f"{name}, effort best, with 2 threads", _difference(*best.hashes(), *best.hashes(threads=2))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runs:
    """Of one network, in processes of their own.   config: of QuantConfig; timings: the record of times, in `folder`"""

    network: Path
    seed: int
    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    kernel_threads: int = 1
    timings: str = "timings.jsonl"

    def hashes(self, *, times: int = 1, threads: int = 1) -> list[list[str]]:
        """Of the plan and of the artifact, of each time.   threads: torch's"""
        environment = {
            **os.environ, "OMP_NUM_THREADS": str(threads), "TVM_NUM_THREADS": str(self.kernel_threads),
            "TVM_RSQ_TIMINGS": str(self.folder / self.timings),
        }  # fmt: skip
        command = [sys.executable, "-c", _CHILD, str(self.network), str(times), str(self.seed), str(self.folder), json.dumps(self.config)]
        return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def _difference(one: list[str], other: list[str]) -> str:
    return ", ".join(what for what, a, b in zip(("the plan", "the artifact"), one, other, strict=True) if a != b)


