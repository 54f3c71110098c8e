"""The command line of `scripts/bench_codebook`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

import tvm_rsq
from scripts.codebook_speed.layers import LAYERS
from scripts.codebook_speed.measure import Row, rows
from scripts.output_file import check_writable
from scripts.peers.machine import machine_facts
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.report import formats
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.threads import thread_count, use_threads

SCHEMA = 1
_MB = 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """0 done, 1 failed; argparse's own 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.repeat < 1 or options.cold_mb < 1:
        parser.error(f"--repeat is {options.repeat} and --cold-mb {options.cold_mb:g}, expected at least 1 each")
    wanted = [layer for layer in LAYERS if options.kind in (None, layer.kind)]
    try:
        if options.json is not None:
            check_writable(options.json)
        use_threads()
        spec, found = parse_target(options.target), []
        for done, layer in enumerate(wanted, start=1):
            found += rows(layer, options.bits, spec, repeat=options.repeat, cold_bytes=int(options.cold_mb * _MB))
            print(f"{done} of {len(wanted)}  {layer.shape}", file=sys.stderr, flush=True)
        Console(width=160).print(table(found))
        if options.json is not None:
            _write(options, found)
    except (tvm_rsq.Error, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def table(found: Sequence[Row]) -> Table:
    """What is printed."""
    made = Table(
        "layer", "bits", "codes become weights", "int8, us", "codes, us", "int8 / codes", "bytes in memory", "of a copy", "of reading",
        "kernel",
    )  # fmt: skip
    for row in found:
        fractions = ["" if each is None else f"{each:.2f}" for each in (row.bandwidth_fraction, row.read_fraction)]
        made.add_row(
            row.shape, str(row.bits), "at loading" if row.at == "load" else "in the kernel", f"{row.int8_us:.1f}", f"{row.codebook_us:.1f}",
            f"{row.speedup_over_int8:.2f}", formats.size(row.weight_bytes_resident), *fractions, row.kernel,
        )  # fmt: skip
    return made


def _write(options: argparse.Namespace, found: Sequence[Row]) -> None:
    record = {
        "schema": SCHEMA, "machine": machine_facts(), "target": options.target, "threads": thread_count(), "repeat": options.repeat,
        "cold_mb": options.cold_mb, "rows": [asdict(row) for row in found],
    }  # fmt: skip
    with atomic_write(options.json) as partial_file:
        partial_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench_codebook", description="Codebook weights against int8 ones, layer by layer.")
    parser.add_argument("--target", default="llvm", help="as in tvm-rsq compile (%(default)s)")
    parser.add_argument("--bits", type=int, nargs="+", choices=(3, 4, 6), default=[4, 6], metavar="N", help="3, 4, 6 (4 6)")
    parser.add_argument("--kind", choices=sorted({layer.kind for layer in LAYERS}), help="only such layers")
    parser.add_argument("--repeat", type=int, default=31, metavar="N", help="turns (%(default)s)")
    parser.add_argument("--cold-mb", type=float, default=300.0, metavar="MB", help="of weights between two uses of one (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all of that there")
    return parser
