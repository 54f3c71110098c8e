"""What the command line of `scripts/reproduce_accuracy` asks for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts.accuracy import table
from scripts.accuracy.calibrations import SOURCES
from scripts.accuracy.case import Bits, Case
from scripts.accuracy.methods import METHODS
from scripts.models.registry import NETWORKS
from tvm_rsq.config import SCHEMES
from tvm_rsq.layer_override import BITS

ROOT = Path(__file__).resolve().parents[2]
TABLES = {"full": table.full, "quick": table.quick}
ALL_BITS = tuple(Bits(*pair) for pair in ((8, 8), (6, 6), (4, 8), (4, 4)))
_SMALL = "resnet20-cifar"
_RANDOM = "resnet18-random"  # of no accuracy
_QUICK_SAMPLES = 1000


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """SystemExit(2): wrong usage, told in a line."""
    parser = argparse.ArgumentParser(
        prog="scripts/reproduce_accuracy",
        description="What quantization costs in accuracy, by method and by source of data. With --table the other options narrow that "
        "table; without it, the rows are every combination of what they name.",
    )
    add = parser.add_argument
    add("--table", choices=sorted(TABLES), help="full: what docs/accuracy.md is made of, in days; quick: one small network")
    add("--networks", type=_names(NETWORKS), metavar="A,B", help=f"of {', '.join(NETWORKS)}")
    add("--bits", type=_bits, metavar="W8A8,W4A8", help="of weights and activations")
    add("--methods", type=_names(METHODS), metavar="'A,B'", help=f"of {'; '.join(METHODS)}")
    add("--schemes", type=_names(SCHEMES), metavar="A,B", help=f"of {', '.join(SCHEMES)}")
    add("--sources", type=_names(SOURCES), metavar="A,B", help=f"of calibration data: {', '.join(SOURCES)}")
    add("--seeds", type=_seeds, metavar="N,M", help="of images and methods (full: 0,1,2; else 0)")
    add("--samples", type=_at_least_one, metavar="N", help=f"evaluate on the first N labelled images (all; quick: {_QUICK_SAMPLES})")
    add("--photos", type=Path, metavar="DIR", help="images and labels.csv for ImageNet networks; without it, twenty that packages carry")
    add("--json", type=Path, metavar="FILE", help="write all rows there")
    add("--markdown", type=Path, metavar="FILE", help="write the page there, such as docs/accuracy.md")
    add("--show", type=Path, nargs="+", metavar="FILE", help="measure nothing: the page of results that --json wrote, all rows together")
    add("--work-dir", type=Path, default=ROOT / "build" / "accuracy", metavar="DIR", help="keeps what is done for the next run")
    add("--calibrations-from", type=Path, action="append", default=[], metavar="DIR", help="use the calibration sets that are there")
    add("--only-calibrations", action="store_true", help="make the calibration sets of these rows, and stop")
    add("--redo", action="store_true", help="measure rows again that are kept")
    add("--jobs", type=_at_least_one, default=1, metavar="N", help="worker processes, each with its share of the cores (%(default)s)")
    options = parser.parse_args(arguments)
    if options.show and (options.table or options.networks):
        parser.error("--show measures nothing; leave --table and --networks out")
    if options.samples is None and options.table == "quick":
        options.samples = _QUICK_SAMPLES
    return options


def cases(options: argparse.Namespace) -> tuple[Case, ...]:
    """The rows that the options ask for."""
    everything = options.table == "full"
    some_bits = {"full": ALL_BITS, "quick": (Bits(8, 8), Bits(4, 8)), None: (Bits(8, 8),)}[options.table]
    named = options.table is not None
    choice = table.Choice(
        networks=options.networks or (tuple(name for name in NETWORKS if name != _RANDOM) if everything else (_SMALL,)),
        bits=options.bits or some_bits,
        methods=options.methods or (tuple(METHODS) if named else ("mse", "ours")),
        schemes=options.schemes or (("per_channel", "per_tensor", "hybrid") if named else ("per_channel",)),
        sources=options.sources or (SOURCES if named else ("retro-synthesis",)),
        seeds=options.seeds or ((0, 1, 2) if everything else (0,)),
    )
    return TABLES.get(options.table, table.cross)(choice)


def _names(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        parts, names = [part.strip() for part in text.split(",")], []
        while parts:  # a name may have a comma of its own: the longest that is known
            taken = max((n for n in range(1, len(parts) + 1) if ", ".join(parts[:n]) in known), default=0)
            if not taken:
                raise argparse.ArgumentTypeError(f"unknown {parts[0]!r}; choose from {'; '.join(known)}")
            names.append(", ".join(parts[:taken]))
            parts = parts[taken:]
        return tuple(names)

    return read


def _bits(text: str) -> tuple[Bits, ...]:
    try:
        found = tuple(Bits.parse(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if wrong := [str(bits) for bits in found if not set(bits) <= set(BITS)]:
        raise argparse.ArgumentTypeError(f"got {', '.join(wrong)}, expected bits of {', '.join(map(str, BITS))}")
    return found


def _seeds(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected whole numbers of at least 0, such as 0,1,2")
    return tuple(map(int, parts))


def _at_least_one(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of at least 1")
    return int(text)
