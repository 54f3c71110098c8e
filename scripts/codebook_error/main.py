"""The command line of `scripts/compare_codebooks`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

import tvm_rsq
from scripts.codebook_error.measure import Row, rows, totals
from scripts.codebook_error.schemes import SCHEMES, YARDSTICK
from scripts.models.fetch import FetchError
from scripts.models.registry import NETWORKS, load
from scripts.output_file import check_writable
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.report import formats

SCHEMA = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """0 done, 1 failed; argparse's own 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    console, found = Console(width=140), []
    try:
        if options.json is not None:
            check_writable(options.json)
        for name in options.networks:
            network = load(name)
            tell = partial(_tell, name)
            made = rows(name, network, options.bits, kl=options.kl, seed=options.seed, tell=tell)
            found += made
            if options.layers:
                console.print(_layers(made))
            console.print(_totals(name, options.bits, made))
        if options.json is not None:
            with atomic_write(options.json) as partial_file:
                partial_file.write_text(json.dumps({"schema": SCHEMA, "rows": [asdict(row) for row in found]}, indent=1) + "\n", "utf-8")
    except (tvm_rsq.Error, FetchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _totals(name: str, bits: int, found: Sequence[Row]) -> Table:
    made = Table("scheme", f"squared error, {YARDSTICK} = 1", "bytes", "KL summed over layers, nats", title=f"{name}, {bits} bits")
    summed = totals(found)
    unit = summed[YARDSTICK][0] or 1.0
    for scheme, (error, size, nats) in summed.items():
        made.add_row(scheme, f"{error / unit:.3f}", formats.size(size), formats.nats(nats))
    return made


def _layers(found: Sequence[Row]) -> Table:
    caption = "mean square error over the weights' mean square" + (", KL in nats" if found[0].kl is not None else "")
    made = Table("layer", "weights", *SCHEMES, caption=caption)
    for at in range(0, len(found), len(SCHEMES)):
        own = found[at : at + len(SCHEMES)]
        cells = [formats.nats(row.nmse) + ("" if row.kl is None else f", {formats.nats(row.kl)}") for row in own]
        made.add_row(own[0].layer, formats.quantity(own[0].weights), *cells)
    return made


def _tell(network: str, text: str) -> None:
    print(f"{network}  {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    about = "Weights on uniform grids and on codebooks, layer by layer."
    parser = argparse.ArgumentParser(prog="scripts/compare_codebooks", description=about)
    parser.add_argument("networks", nargs="+", choices=NETWORKS, metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--bits", type=int, choices=(3, 4, 6), default=4, help="(%(default)s)")
    parser.add_argument("--kl", action="store_true", help="also what each layer alone does to the output's divergence, from drawn images")
    parser.add_argument("--layers", action="store_true", help="also a line for every layer")
    parser.add_argument("--seed", type=int, default=0, help="of the images (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every layer's figures there")
    return parser
