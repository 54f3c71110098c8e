"""The command line of the first step."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.device_pack.bundle import pack
from scripts.device_pack.cases import all_cases
from scripts.device_pack.cubin import ARCHS, PackError
from tvm_rsq.targets.cuda.code_lookup import LANES


def main(arguments: Sequence[str] | None = None) -> int:
    """0 done, 1 failed; argparse's own 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="scripts/device_bench pack", description="Compile kernels for a machine that is elsewhere.")
    parser.add_argument("bundle", type=Path, help="a new folder")
    parser.add_argument("--arch", nargs="+", default=ARCHS, metavar="sm_NN", help=f"of the GPUs ({' '.join(ARCHS)})")
    parser.add_argument(
        "--widths", nargs="+", type=int, choices=LANES, default=(), metavar="N",
        help="time expansions also with so many bytes of a row to a thread: 4, 8, 16",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        manifest = pack(options.bundle, tuple(all_cases(options.widths)), options.arch)
    except (PackError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = sum(file.stat().st_size for file in options.bundle.rglob("*") if file.is_file())
    print(f"{options.bundle}: {len(manifest.cases)} kernels for {', '.join(manifest.cubins)}, {size / 1e6:.1f} MB")
    print(f"on the machine with the GPU: python3 {options.bundle.name}/run --json FILE")
    return 0
