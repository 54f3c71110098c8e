"""The command line of `scripts/count_arm`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.text import Text

import tvm_rsq
from scripts.arm_counts.boards import emulated_boards
from scripts.arm_counts.count import CPUS, Settings, count_network
from scripts.arm_counts.onnxruntime_library import VERSION
from scripts.arm_counts.row import BUILDS, ONNXRUNTIME, Row, document
from scripts.arm_counts.show import kernels_table, page, rows_table
from scripts.emulator.toolchain import EmulatorError, ensure_toolchain, qemu_version
from scripts.models.fetch import FetchError
from scripts.models.registry import NETWORKS, load
from scripts.output_file import check_writable
from scripts.peers.build import PeerError
from scripts.peers.machine import machine_facts
from scripts.peers.peer_builds import missing_packages
from scripts.peers.work_folder import SOURCES, WorkFolder
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.cli.progress_display import ProgressDisplay
from tvm_rsq.remote.modelled_cycles import CycleModel
from tvm_rsq.targets.aarch64.pipeline_models import pipeline_model
from tvm_rsq.targets.llvm_tools import find_llvm_tools

ROOT = Path(__file__).resolve().parents[2]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """SystemExit(2): wrong usage, told in a line."""
    parser = argparse.ArgumentParser(
        prog="count_arm",
        description="Count the instructions of one inference on emulated aarch64 CPUs: our int8 builds, our FP32, ONNX Runtime's int8.",
    )
    parser.add_argument("networks", nargs="+", choices=sorted(NETWORKS), metavar="NETWORK", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--cpus", type=_names(CPUS), default=["cortex-a76"], metavar="A,B", help=f"of {', '.join(CPUS)} (cortex-a76)")
    parser.add_argument("--builds", type=_names(BUILDS), default=list(BUILDS), metavar="A,B", help=f"of {', '.join(BUILDS)} (all)")
    parser.add_argument("--calibration", choices=SOURCES, default="synthesis", help="of all int8 builds (%(default)s); noise is quicker")
    parser.add_argument(
        "--measure", choices=("instructions", "modelled-cycles"), default="instructions",
        help="what decides the levers of the hybrid build, on each CPU for itself (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--no-cycles", action="store_true", help="count only: needs no LLVM")
    parser.add_argument("--kernels", action="store_true", help="also split our builds' counts among their kernels")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "build" / "peers", metavar="DIR", help="keeps what took long to make")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there, after every row")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write a page there")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 failed, 130 interrupted."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 240
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        _run(parse(words), f"scripts/count_arm {shlex.join(words)}", console)
        return 0
    except (EmulatorError, PeerError, FetchError, tvm_rsq.Error, OSError) as error:
        Console(stderr=True, highlight=False).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(args: argparse.Namespace, command: str, console: Console) -> None:
    for path in (args.json, args.markdown):
        if path is not None:
            check_writable(path)
    if ONNXRUNTIME in args.builds and (missing := missing_packages([ONNXRUNTIME])):
        install = ".venv/bin/pip install -c constraints.txt -e '.[peers]'"
        raise PeerError(f"{', '.join(missing)}, which quantizes its own networks, is missing; run: {install}, or leave it out of --builds")
    tools = None if args.no_cycles else find_llvm_tools()
    models = None if tools is None else {cpu: CycleModel(pipeline_model(cpu), tools) for cpu in args.cpus}
    networks = {name: load(name) for name in args.networks}
    ensure_toolchain(install=True)
    facts = {"command": command, "date": str(date.today()), "calibration": args.calibration, "versions": _versions(tools and tools.version)}
    rows: list[Row] = []
    with emulated_boards(args.cpus) as address, ProgressDisplay(Console(stderr=True, highlight=False), lambda _event: None) as progress:
        settings = Settings(
            cpus=args.cpus, builds=args.builds, calibration=args.calibration, folder=WorkFolder(args.work_dir), models=models,
            kernels=args.kernels, levers_by=args.measure, progress=progress.event,
        )  # fmt: skip
        for name, network in networks.items():
            for row in count_network(name, network, address, settings):
                rows.append(row)
                if args.json is not None:
                    _write(args.json, json.dumps(document(facts, rows), indent=1) + "\n")
    for row in rows:
        if row.kernels:
            console.print(kernels_table(row), Text())
    console.print(rows_table(rows))
    if args.markdown is not None:
        _write(args.markdown, page(facts, rows))


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _versions(llvm: str | None) -> dict[str, str]:
    found = {"TVM": machine_facts(("apache-tvm",))["versions"]["apache-tvm"], "ONNX Runtime": VERSION, "QEMU": qemu_version()}
    return found | ({} if llvm is None else {"LLVM": llvm})


def _names(known: Sequence[str]):
    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; choose from {', '.join(known)}")
        return names

    return read


if __name__ == "__main__":
    sys.exit(main())
