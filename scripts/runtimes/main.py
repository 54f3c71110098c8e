"""The command line of `scripts/compare_runtimes`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from scripts.board_check.subject import Subject
from scripts.models.fetch import FetchError
from scripts.models.registry import load
from scripts.peers.compare_builds import photos_for
from tvm_rsq.errors import Error
from tvm_rsq.onnx_export.export import NEWEST, OLDEST


def main(arguments: Sequence[str] | None = None) -> int:
    """0 the same classes everywhere, and at least 99.5 % of stored values within one level; 1 less, or nothing could be compared."""
    parser = argparse.ArgumentParser(prog="compare_runtimes", description="Our integer library beside ONNX Runtime, on the QDQ export.")
    parser.add_argument("networks", nargs="+", metavar="NETWORK[:WAY]", help="as of scripts/check_boards")
    parser.add_argument("--opset", type=int, default=NEWEST, choices=range(OLDEST, NEWEST + 1), metavar="N", help="(%(default)s)")
    options = parser.parse_args(arguments)
    try:
        from scripts.runtimes.compare import compare
    except ImportError as error:
        print(f"error: {error}; run: pip install -c constraints.txt -e .[peers]", file=sys.stderr)
        return 1
    table, fine = Table("network", "images", "same class", "values equal", "within one level", "outputs apart", "first difference"), True
    for text in options.networks:
        try:
            subject = Subject.parse(text)
            images = photos_for(load(subject.network))
            if images is None:
                raise FetchError("there are no photos in the cache; run: scripts/fetch_models photos")
            found = compare(subject.quantize(), images, options.opset)
        except (Error, FetchError, ValueError) as error:
            print(f"error: {text}: {error}", file=sys.stderr)
            fine = False
            continue
        fine = fine and found.same_class == found.images and found.within_step >= 0.995
        first = "none" if found.first is None else f"{found.first.tensor}: {found.first.part:.2%}, by {found.first.most}"
        table.add_row(
            text, str(found.images), str(found.same_class), f"{found.equal:.3%}", f"{found.within_step:.3%}", f"{found.largest:.2%}", first
        )
    Console(width=160).print(table)
    return 0 if fine else 1
