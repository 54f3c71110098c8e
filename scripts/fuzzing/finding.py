"""A network and a case on disk: what is being tried, so that a crash can be told, and what was found, to be replayed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import onnx

from scripts.fuzzing.properties import Case
from tvm_rsq.atomic_write import atomic_write


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """reason: one line, empty while it is being tried"""

    model: onnx.ModelProto
    case: Case
    reason: str = ""

    def save(self, path: Path) -> None:
        """One .json beside one .onnx."""
        with atomic_write(path.with_suffix(".onnx")) as partial:
            onnx.save(self.model, str(partial))
        with atomic_write(path.with_suffix(".json")) as partial:
            partial.write_text(json.dumps({"case": self.case.record(), "reason": self.reason}, indent=1), "utf-8")

    @classmethod
    def load(cls, path: Path) -> Finding:
        """OSError, ValueError: no such files, or none of ours."""
        record = json.loads(path.with_suffix(".json").read_text("utf-8"))
        return cls(model=onnx.load(path.with_suffix(".onnx")), case=Case(**record["case"]), reason=record["reason"])
