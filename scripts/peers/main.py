"""The command line of `scripts/bench_peers`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

import tvm_rsq
from scripts.models.fetch import FetchError, is_cached
from scripts.models.registry import NETWORKS, load
from scripts.models.sources import SOURCES as PACKAGES
from scripts.output_file import check_writable
from scripts.peers.build import PeerError
from scripts.peers.compare_builds import Settings, measure_row
from scripts.peers.machine import machine_facts
from scripts.peers.peer_builds import missing_packages
from scripts.peers.rows import PEERS, Row, document
from scripts.peers.show import builds_table, rows_table, warnings
from scripts.peers.work_folder import SOURCES, WorkFolder
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.cli.progress_display import ProgressDisplay
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.peak import measure_peak

ROOT = Path(__file__).resolve().parents[2]
_MODELS = ("resnet50", "mobilenetv2", "efficientnet-lite0", "resnet18-random")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """SystemExit(2): wrong usage, told in a line."""
    parser = argparse.ArgumentParser(prog="bench_peers", description="Compare our builds with ONNX Runtime and OpenVINO.")
    parser.add_argument("--models", type=_names(NETWORKS), default=list(_MODELS), metavar="A,B", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--threads", type=_counts, default=[1], metavar="N,M", help="numbers of threads (1)")
    parser.add_argument("--batch", type=_counts, default=[1], metavar="N,M", help="batch sizes (1)")
    parser.add_argument("--repeat", type=int, default=50, metavar="N", help="measured calls of each build (%(default)s)")
    parser.add_argument("--target", default="llvm", help="another CPU level of this machine, without peers: 'llvm -mcpu=haswell'")
    parser.add_argument("--peers", type=_peers, metavar="A,B", help=f"of {', '.join(PEERS)}, or none (all; none with --target)")
    parser.add_argument("--calibration", choices=SOURCES, default="synthesis", help="of our builds (%(default)s); noise for latency alone")
    parser.add_argument("--tuning-dir", type=Path, metavar="DIR", help="use the records that `tvm-rsq tune` left there")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "build" / "peers", metavar="DIR", help="keeps what took long to make")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write rows and raw times there, after every row")
    parser.add_argument("--list", action="store_true", help="show networks and peers, and stop")
    args = parser.parse_args(arguments)
    if args.repeat < 1:
        parser.error(f"--repeat is {args.repeat}, expected at least 1")
    if args.peers and args.target != "llvm":
        parser.error(f"--peers {','.join(args.peers)} do not follow --target {args.target!r}; leave --peers or --target out")
    if args.peers is None:
        args.peers = list(PEERS) if args.target == "llvm" else []
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 failed, 130 interrupted."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 240
    try:
        args = parse(arguments)
        if args.list:
            _list(console)
        else:
            _run(args, console)
        return 0
    except (PeerError, FetchError, tvm_rsq.Error, OSError) as error:
        Console(stderr=True, highlight=False).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(args: argparse.Namespace, console: Console) -> None:
    if args.json is not None:
        check_writable(args.json)
    spec = parse_target(args.target)
    peers = tuple(args.peers)
    if missing := missing_packages(peers):
        raise PeerError(
            f"{' and '.join(missing)} not installed; run: .venv/bin/pip install -c constraints.txt -e '.[peers]', or give --peers none"
        )
    networks = {name: load(name) for name in args.models}  # before the long work: a network that is not there should not cost minutes
    facts, peak = machine_facts(), measure_peak(spec)
    console.print(Text(f"{facts['cpu']}, {spec.name}: peak of one core {peak.gmacs:.0f} GMAC/s ({peak.name}, {peak.form})"))
    settings = Settings(
        spec=spec, peak_gmacs=peak.gmacs, peers=peers, calibration=args.calibration, folder=WorkFolder(args.work_dir),
        tuning_dir=args.tuning_dir, repeat=args.repeat,
    )  # fmt: skip
    facts |= {"calibration": args.calibration, "tuned": args.tuning_dir is not None}
    rows: list[Row] = []
    for name, network in networks.items():
        for batch in args.batch:
            for threads in args.threads:
                with ProgressDisplay(Console(stderr=True, highlight=False), lambda _event: None) as progress:
                    rows.append(measure_row(name, network, batch, threads, replace(settings, progress=progress.event)))
                # A machine that others use has slow moments: the peak is the most that was seen, for all rows.
                peak = max(peak, measure_peak(spec), key=lambda found: found.gmacs)
                rows = [replace(row, peak_gmacs=peak.gmacs) for row in rows]
                console.print(builds_table(rows[-1]))
                if args.json is not None:
                    with atomic_write(args.json) as partial:
                        known = {**facts, "peak": {"name": peak.name, "form": peak.form}}
                        partial.write_text(json.dumps(document(known, peak.gmacs, rows), indent=1) + "\n")
    console.print(Text(), rows_table(rows))
    for line in warnings(rows):
        console.print(Text(f"warning: {line}", "yellow"), soft_wrap=True)


def _list(console: Console) -> None:
    for name in NETWORKS:
        there = name not in PACKAGES or is_cached(name)
        console.print(Text(f"{name:22}{'ready' if there else f'run: scripts/fetch_models {name}'}"))
    for name in PEERS:
        console.print(Text(f"{name:22}{'not installed' if missing_packages([name]) else 'ready'}"))


def _counts(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected numbers of at least 1, such as 1,2")
    return [int(part) for part in parts]


def _names(known: Sequence[str]):
    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; choose from {', '.join(known)}")
        return names

    return read


def _peers(text: str) -> list[str]:
    return [] if text == "none" else _names(PEERS)(text)


if __name__ == "__main__":
    sys.exit(main())
