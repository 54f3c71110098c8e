"""A session of an emulated board whose counts are made up: each call adds an execution of every block."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tvm_rsq.remote.counts import READ, RESET, SCHEMA


@dataclass
class CountingSession:
    """blocks: (offset, executions of one call, code); `call` is a call of the kernel"""

    blocks: Sequence[tuple[int, int, bytes]]
    file: str = "kernels.so"
    _calls: int = field(default=0, init=False)

    def call(self) -> None:
        self._calls += 1

    def get_function(self, name: str) -> Callable[[], object]:
        return {RESET: self._reset, READ: self._read}[name]

    def _reset(self) -> None:
        self._calls = 0

    def _read(self) -> str:
        blocks = [[0, offset, executions * self._calls, code.hex()] for offset, executions, code in self.blocks if self._calls]
        total = sum(executions * len(code) // 2 // 4 for _, _, executions, code in blocks)
        return json.dumps({"schema": SCHEMA, "kinds": {"all": total}, "files": [self.file], "blocks": blocks})


class RealBoard:
    """A session that counts nothing."""

    def get_function(self, name: str) -> Callable[[], object]:
        raise AttributeError(f"Cannot find function {name}")
