"""The command line of `scripts/count_instructions`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import tvm
from rich.console import Console
from rich.text import Text

import tvm_rsq
from scripts.instructions.callgrind import CountError, check_machine
from scripts.instructions.case import Case
from scripts.instructions.cases import all_cases, loop_cases
from scripts.instructions.comparison import compare
from scripts.instructions.count import call_rows, loop_rows
from scripts.instructions.mobilenetv2 import pointwise_cases
from scripts.instructions.networks import network_sums
from scripts.instructions.row import BaselineError, Row, document, read_document
from scripts.instructions.show import comparison_lines, rows_table
from scripts.models.fetch import FetchError
from scripts.models.registry import NETWORKS
from scripts.output_file import check_writable
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import TargetSpec

# The newest that valgrind runs, and one of each kind of vectors and multiplications.
CALLS, LOOPS = ("haswell",), ("x86-64", "haswell", "skylake-avx512", "alderlake", "sapphirerapids")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 failed or instructions grew, 130 interrupted; argparse's own 2 for wrong usage."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    try:
        return _run(_parse(arguments), console)
    except (CountError, BaselineError, FetchError, tvm_rsq.Error, OSError) as error:
        Console(stderr=True, highlight=False).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="count_instructions", description="Instructions of kernels: the same on a busy machine.")
    parser.add_argument("--loops", action="store_true", help="count in the assembly, the innermost loop alone: no valgrind, any x86-64 CPU")
    parser.add_argument("--target", action="append", help="as in tvm-rsq compile; may be repeated (haswell; --loops: one of each kind)")
    parser.add_argument("--only", default="*", metavar="GLOB", help="kernels and sums of that name: '3x3*' (%(default)s)")
    parser.add_argument("--network", action="append", default=[], choices=sorted(NETWORKS), metavar="NAME", help="also a whole network")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the counts there, for --baseline of a later run")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="compare with these counts, and fail if any grew")
    parser.add_argument("--tolerance", type=float, default=3, metavar="PERCENT", help="growth that is none (%(default)s)")
    args = parser.parse_args(arguments)
    if args.loops and args.network:
        parser.error("--network counts calls; leave --loops or --network out")
    if not args.tolerance >= 0:
        parser.error(f"--tolerance is {args.tolerance}, expected at least 0")
    return args


def _run(args: argparse.Namespace, console: Console) -> int:
    specs = [parse_target(target) for target in args.target or (LOOPS if args.loops else CALLS)]
    if args.json is not None:
        check_writable(args.json)
    baseline = read_document(args.baseline) if args.baseline else None  # first: counting takes a minute
    rows = _loops(args.only, specs) if args.loops else _calls(args, specs)
    if not rows:
        raise CountError(f"--only {args.only!r} names no kernel and no sum; leave it out to see them all")
    console.print(rows_table(rows))
    if args.json is not None:
        with atomic_write(args.json) as partial:
            partial.write_text(json.dumps(document(rows), indent=1) + "\n", encoding="utf-8")
    if baseline is None:
        return 0
    version, before = baseline
    if version != tvm.__version__:
        console.print(Text(f"warning: the baseline was counted with TVM {version}, this is {tvm.__version__}", "yellow"), soft_wrap=True)
    found = compare(rows, before, args.tolerance / 100)
    for style, line in comparison_lines(found, args.tolerance / 100):
        console.print(Text(line, style), soft_wrap=True)
    return 1 if found.grown else 0


def _loops(only: str, specs: Sequence[TargetSpec]) -> list[Row]:
    cases = [case for case in loop_cases() if fnmatchcase(case.name, only)]
    rows = []
    for spec in specs:
        for row in loop_rows(cases, spec):
            rows.append(row)
        if cases:
            print(f"{spec.name}: {len(cases)} loops", file=sys.stderr, flush=True)
    return rows


def _calls(args: argparse.Namespace, specs: Sequence[TargetSpec]) -> list[Row]:
    for spec in specs:
        check_machine(spec)
    cases = [case for case in all_cases() if fnmatchcase(case.name, args.only)]
    rows = []
    for spec in specs:
        sums = {name: summed for name, summed in _sums(args.network, spec).items() if fnmatchcase(name, args.only)}
        if cases or sums:
            rows += call_rows(cases, sums, spec)
    return rows


def _sums(networks: Sequence[str], spec: TargetSpec) -> Mapping[str, Sequence[Case]]:
    found = defaultdict(list)
    for name, case in pointwise_cases():
        found[name].append(case)
    for network in networks:
        found |= network_sums(network, spec)
    return found
