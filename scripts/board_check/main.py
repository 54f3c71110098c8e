"""The command line of `scripts/check_boards`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.text import Text

import tvm_rsq
from scripts.arm_counts.boards import emulated_boards
from scripts.board_check.check import TARGETS, Settings, check
from scripts.board_check.row import rows_of, write_rows
from scripts.board_check.show import page, rows_table
from scripts.board_check.subject import ALL, Subject
from scripts.emulator.toolchain import EmulatorError, ensure_toolchain, qemu_version
from scripts.models.fetch import FetchError
from scripts.output_file import check_writable
from scripts.peers.machine import machine_facts
from scripts.peers.work_folder import source_digest
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.cli.progress_display import ProgressDisplay


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """SystemExit(2): wrong usage, told in a line."""
    parser = argparse.ArgumentParser(
        prog="check_boards",
        description="Hold integer networks on emulated aarch64 boards to this machine's build of the same plan, bit for bit.",
    )
    parser.add_argument(
        "networks", nargs="*", type=_subject, default=list(ALL), metavar="NETWORK[:WAY]",
        help="development network, and how it is quantized (all of them, int8, and a few other ways)",
    )  # fmt: skip
    parser.add_argument("--boards", type=_boards, default=list(TARGETS), metavar="A,B", help=f"of {', '.join(TARGETS)} (all)")
    parser.add_argument(
        "--most-gmacs", type=float, default=0.5, metavar="G",
        help="compare every stored tensor, too, of networks of so many GMACs at most (%(default)s); of larger ones where an output differs",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there, each at once; equal ones are not run again")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write a page there")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 all equal, 1 something differs or failed, 130 interrupted."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 240
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        return _run(parse(words), f"scripts/check_boards {shlex.join(words)}".strip(), console)
    except (EmulatorError, FetchError, tvm_rsq.Error, OSError) as error:
        Console(stderr=True, highlight=False).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(args: argparse.Namespace, command: str, console: Console) -> int:
    for path in (args.json, args.markdown):
        if path is not None:
            check_writable(path)
    source = source_digest()
    known = {row.key: row for row in (rows_of(args.json, source) if args.json else ())}
    ensure_toolchain(install=True)
    here = machine_facts(("apache-tvm",))
    versions = {"TVM": here["versions"]["apache-tvm"], "QEMU": qemu_version()}
    facts = {"command": command, "date": str(date.today()), "source": source, "cpu": here["cpu"], "versions": versions}
    with emulated_boards(args.boards) as address, ProgressDisplay(Console(stderr=True, highlight=False), lambda _event: None) as progress:
        for subject in args.networks:
            asked = {board: known.get((subject.network, subject.way, board)) for board in args.boards}
            missing = [board for board, row in asked.items() if row is None or not row.compared_for(args.most_gmacs)]
            settings = Settings(boards=missing, address=address, most_gmacs=args.most_gmacs, progress=progress.event)
            for row in check(subject, settings) if missing else ():
                known[row.key] = row
                if args.json is not None:
                    write_rows(args.json, facts, list(known.values()))
    rows = [known[subject.network, subject.way, board] for subject in args.networks for board in args.boards]
    console.print(rows_table(rows))
    if args.markdown is not None:
        with atomic_write(args.markdown) as partial:
            partial.write_text(page(facts, rows), encoding="utf-8")
    return int(any(row.wrong is not None for row in rows))


def _subject(text: str) -> Subject:
    try:
        return Subject.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _boards(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in TARGETS]:
        raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; choose from {', '.join(TARGETS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
