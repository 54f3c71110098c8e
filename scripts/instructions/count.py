"""Cases -> rows, by calls or by loops."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scripts.instructions.build_library import build_library, compile_kernels
from scripts.instructions.callgrind import CountError, count_calls
from scripts.instructions.case import Case
from scripts.instructions.inner_loops import densest_loop
from scripts.instructions.row import Row
from tvm_rsq.targets.spec import TargetSpec


def call_rows(cases: Sequence[Case], sums: Mapping[str, Sequence[Case]], spec: TargetSpec) -> list[Row]:
    """A row for each of `cases`, and one for each of `sums`: name -> what it adds up, once for every call.

    CountError, TargetError: as count_calls and build_library.
    """
    every = {case.name: case for case in (*cases, *(case for summed in sums.values() for case in summed))}
    kernels = {name: case.make(spec.library) for name, case in every.items()}
    with tempfile.TemporaryDirectory(prefix="tvm-rsq-") as made:
        folder = Path(made).resolve()
        library = folder / "kernels.so"
        calls = build_library({f"kernel{i}": kernel.prim_func for i, kernel in enumerate(kernels.values())}, spec, library)
        counts = dict(zip(kernels, count_calls(library, calls, folder), strict=True))
    rows = [_row(spec, case.name, kernels[case.name].name, counts[case.name], case.work, case.unit) for case in cases]
    for name, summed in sums.items():
        instructions = sum(counts[case.name] for case in summed)
        work = sum(case.work for case in summed if case.unit == "MAC")
        rows.append(_row(spec, name, f"{len(summed)} calls", instructions, work, "MAC"))
    return rows


def loop_rows(cases: Sequence[Case], spec: TargetSpec) -> Iterator[Row]:
    """A row for each of `cases`, as soon as it is there.   CountError: not x86-64, or no loop multiplies."""
    if spec.arch != "x86_64":
        raise CountError(f"--loops reads the assembly of x86-64, got {spec.name} for {spec.arch}; give another --target")
    for case in cases:
        kernel = case.make(spec.library)
        loop = densest_loop(compile_kernels({"main": kernel.prim_func}, spec).mod.inspect_source("asm"))
        if loop is None:
            raise CountError(
                f"no loop of {kernel.name} multiplies on {spec.name}; teach scripts/instructions/inner_loops.py its instruction"
            )
        unit = "multiplication"
        yield Row(
            target=spec.name, name=case.name, kernel=kernel.name, instructions=loop.instructions, work=loop.multiplications, unit=unit,
            stack=loop.stack,
        )  # fmt: skip


def _row(spec: TargetSpec, name: str, kernel: str, instructions: int, work: int, unit: str) -> Row:
    return Row(target=spec.name, name=name, kernel=kernel, instructions=instructions, work=work, unit=unit)
