"""Row: what one inference of one build executes on one CPU; and the document that holds all of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scripts.arm_counts.kernels import KernelCount
from tvm_rsq.remote.counts import ALL

SCHEMA = 1
ONNXRUNTIME = "onnxruntime"
BUILDS = ("hybrid", "per_channel", "fp32", ONNXRUNTIME)
_PRODUCTS_OF_A_DOT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """build    of BUILDS; "onnxruntime" is int8, in the variant that executes fewest instructions
    macs     multiply-accumulates of the network's convolutions and dense layers
    kinds    see tvm_rsq.remote.counts.InstructionCounts
    cycles   modelled, of the same CPU; None: not asked for
    cosine   of its output to that of the torch module (or of our FP32 build, where the network is a file)
    spread   fewest and most instructions of a call; None: they are all the same
    tried    variant -> instructions, where there are several
    kernels  of our builds, where they were asked for
    """

    network: str
    cpu: str
    build: str
    variant: str = ""
    macs: int
    kinds: Mapping[str, int]
    cycles: float | None
    cosine: float
    spread: tuple[int, int] | None = None
    tried: Mapping[str, int] = field(default_factory=dict)
    kernels: tuple[KernelCount, ...] = ()

    @property
    def instructions(self) -> int:
        return self.kinds[ALL]

    @property
    def dot_share(self) -> float:
        """Dot products executed for each 16 multiply-accumulates: 1 where all are made by them and nothing is padded. A matrix product,
        of 32, is two.
        """
        return (self.kinds["dot"] + 2 * self.kinds["matmul"]) * _PRODUCTS_OF_A_DOT / self.macs


def document(facts: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """JSON values: {"schema", **facts, "rows": [{"network", "cpu", "build", ..., "instructions", "modelled_cycles"}]}."""
    return {"schema": SCHEMA, **facts, "rows": [_record(row) for row in rows]}


def _record(row: Row) -> dict[str, Any]:
    values = {each.name: getattr(row, each.name) for each in dataclasses.fields(row)}
    values["modelled_cycles"] = values.pop("cycles")
    kernels = [dataclasses.asdict(kernel) for kernel in row.kernels]
    return {**values, "kinds": dict(row.kinds), "tried": dict(row.tried), "kernels": kernels, "instructions": row.instructions}
