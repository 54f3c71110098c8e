"""The command line of `scripts/docs`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """0: done."""
    parser = argparse.ArgumentParser(prog="docs", description="The documents: run their commands, draw their figures, write the reference.")
    parts = parser.add_subparsers(dest="part", required=True)
    run = parts.add_parser("run", help="run a page's commands and put in what they print")
    run.add_argument("pages", nargs="+", type=Path, metavar="PAGE")
    parts.add_parser("figures", help="draw docs/figures; minutes; takes the extra docs")
    parts.add_parser("reference", help="write docs/reference from the code's own words")
    options = parser.parse_args(arguments)
    if options.part == "reference":
        return _reference()
    return _figures() if options.part == "figures" else _run(options.pages)


def _figures() -> int:
    try:
        from scripts.documentation.figures import draw
    except ImportError as error:
        print(f"error: {error}; run: pip install -c constraints.txt -e .[docs]", file=sys.stderr)
        return 1
    for path in draw(Path(__file__).resolve().parents[2] / "docs" / "figures"):
        print(path)
    return 0


def _reference() -> int:
    from scripts.documentation.reference import ROOT, pages

    folder = ROOT / "docs" / "reference"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text.rstrip() + "\n", "utf-8")
        print(folder / name)
    return 0


def _run(pages: Sequence[Path]) -> int:
    from scripts.documentation.run import run_page

    for page in pages:
        try:
            run_page(page.resolve())
        except (RuntimeError, ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0
