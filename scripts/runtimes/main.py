"""The command line of `scripts/compare_runtimes`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from scripts.models.fetch import FetchError
from scripts.models.registry import load
from scripts.peers.compare_builds import photos_for
from scripts.runtimes.compare import Comparison, compare
from scripts.runtimes.runtimes import RUNTIMES
from tvm_rsq.errors import Error
from tvm_rsq.onnx_export.export import NEWEST, OLDEST

_ENOUGH = 0.995  # of values at most one step apart


def main(arguments: Sequence[str] | None = None) -> int:
    """0 the same classes everywhere, and at least 99.5 % of values within one step; 1 less, or something could not be compared."""
    parser = argparse.ArgumentParser(prog="compare_runtimes", description="Our integer library beside other runtimes, on QDQ networks.")
    help_text = "as of scripts/check_boards, whose export is run; or with the way onnxruntime or nncf: they quantize it, and we import that"
    parser.add_argument("networks", nargs="+", metavar="NETWORK[:WAY]", help=help_text)
    parser.add_argument("--opset", type=int, default=NEWEST, choices=range(OLDEST, NEWEST + 1), metavar="N", help="(%(default)s)")
    parser.add_argument(
        "--runtimes", type=_runtimes, default=("onnxruntime",), metavar="A,B", help=f"of {', '.join(RUNTIMES)} (onnxruntime)"
    )
    options = parser.parse_args(arguments)
    columns = ("network", "runtime", "images", "same class", "outputs within a step", "apart at most", "stored: equal", "within one level")
    table, fine = Table(*columns, "first difference"), True
    for text in options.networks:
        try:
            rows = list(_rows(text, options.runtimes, options.opset))
        except (Error, FetchError, ValueError) as error:
            print(f"error: {text}: {error}", file=sys.stderr)
            fine = False
            continue
        except ImportError as error:
            print(f"error: {error}; run: pip install -c constraints.txt -e .[peers]", file=sys.stderr)
            return 1
        for runtime, found in rows:
            fine = fine and found.same_class == found.images and _part(found) >= _ENOUGH
            table.add_row(text, runtime, *_cells(found))
    if table.row_count:
        Console(width=190).print(table)
    return 0 if fine else 1


def _rows(text: str, runtimes: Sequence[str], opset: int):
    from scripts.runtimes.subject import compared, network_of

    network = load(network_of(text))
    images = photos_for(network)
    if images is None:
        raise FetchError("there are no photos in the cache; run: scripts/fetch_models photos")
    subject = compared(text, network, images, opset)
    for runtime in runtimes:
        yield runtime, compare(subject.quantized, RUNTIMES[runtime](subject.for_runtime(runtime)), images)


def _part(found: Comparison) -> float:
    return found.outputs if found.within_step is None else found.within_step


def _cells(found: Comparison) -> list[str]:
    first = "none" if found.first is None else f"{found.first.tensor}: {found.first.part:.2g}, by {found.first.most}"
    stored = ["–", "–", "–"] if found.within_step is None else [f"{found.equal:.3%}", f"{found.within_step:.3%}", first]
    return [str(found.images), str(found.same_class), f"{found.outputs:.2%}", f"{found.largest:.2%}", *stored]


def _runtimes(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in RUNTIMES]:
        raise argparse.ArgumentTypeError(f"no runtime {unknown[0]!r}; choose from {', '.join(RUNTIMES)}")
    return names
