"""One process of the search:   python -m scripts.fuzzing.child SEED EXAMPLES FOLDER

It prints a line of JSON before and after every network, and says in FOLDER/current what it is at, since it may crash. What it finds is made
small, for a minute and a half of this process's time, and is in FOLDER/found.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from hypothesis import HealthCheck, Phase, given, seed, settings

from scripts.fuzzing.cases import cases
from scripts.fuzzing.finding import Finding
from scripts.fuzzing.properties import Case, check_network
from scripts.fuzzing.random_network import networks
from tvm_rsq.errors import Error

_SHRINK_S = 90.0


@dataclass
class _Smallest:
    """The smallest finding so far, and when this process is to end with it."""

    folder: Path
    found: Finding | None = None
    until: float = float("inf")

    def offer(self, finding: Finding) -> None:
        if self.found is None:
            self.until = time.process_time() + _SHRINK_S
        if self.found is None or _size(finding) < _size(self.found):
            self.found = finding
            finding.save(self.folder / "found")


def main() -> int:
    """0: nothing was found."""
    # Whatever else prints, compilers among them, does so elsewhere: this output is read by the parent.
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    number, examples, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    found = search(number, examples, folder, lambda **words: print(json.dumps(words), file=output, flush=True))
    return 0 if found is None else 1


def search(number: int, examples: int, folder: Path, tell: Callable[..., Any]) -> Finding | None:
    """The first finding, as small as it was made."""
    smallest = _Smallest(folder)
    # Each example from its seed alone: no database, no deadline.
    options = settings(max_examples=examples, deadline=None, database=None, phases=(Phase.generate, Phase.shrink), print_blob=False)

    @seed(number)
    @settings(options, suppress_health_check=list(HealthCheck))
    @given(networks(), cases())
    def check(model: onnx.ModelProto, case: Case) -> None:
        if time.process_time() > smallest.until:
            return  # small enough: for what is left of the search for smaller ones, everything passes
        finding, refused = Finding(model=model, case=case), ""
        finding.save(folder / "current")
        tell(begun=1)
        try:
            check_network(model, case)
        except Error as error:  # refused by name: as it should be, and shown, as it may be a refusal too many
            refused = str(error)
        except Exception as error:
            smallest.offer(replace(finding, reason=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))
            raise
        if smallest.found is None:
            tell(tried=1, refused=refused)

    try:
        check()
    except Exception:
        if smallest.found is None:
            raise
    if smallest.found is not None:
        tell(tried=1, found=smallest.found.reason)
    return smallest.found


def _size(finding: Finding) -> tuple[int, int]:
    return len(finding.model.graph.node), finding.model.ByteSize()


if __name__ == "__main__":
    sys.exit(main())
