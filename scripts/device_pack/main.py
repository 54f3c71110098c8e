"""The command line of the first step."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.device_pack.bundle import pack
from scripts.device_pack.cases import all_cases
from scripts.device_pack.cubin import ARCHS, PackError
from scripts.device_pack.networks import BUILDS, NetworkBuilds
from scripts.device_pack.runtime import HERE
from scripts.models.fetch import FetchError
from tvm_rsq.errors import Error
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
    parser.add_argument("--networks", nargs="+", default=(), metavar="NAME", help="compile these too, for the last of the architectures")
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 32), metavar="N", help="of networks (1 32)")
    parser.add_argument("--builds", nargs="+", choices=BUILDS, default=BUILDS, metavar="BUILD", help=f"of networks ({' '.join(BUILDS)})")
    parser.add_argument("--python", default=HERE, metavar="3.N", help="of the machine with the GPU, for networks (%(default)s)")
    parser.add_argument("--no-kernels", action="store_true", help="networks alone, without the kernels that expand codes")
    options = parser.parse_args(arguments)
    try:
        networks = [
            NetworkBuilds(name=name, batches=options.batches, builds=options.builds, arch=options.arch[-1]) for name in options.networks
        ]
        cases = () if options.no_kernels else tuple(all_cases(options.widths))
        manifest = pack(
            options.bundle, cases, options.arch, networks, python=options.python, note=lambda line: print(line, file=sys.stderr, flush=True)
        )  # fmt: skip
    except (PackError, FetchError, Error, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = sum(file.stat().st_size for file in options.bundle.rglob("*") if file.is_file())
    what = [f"{len(manifest.cases)} kernels for {', '.join(manifest.cubins)}"] if manifest.cases else []
    what += [f"{len(manifest.networks)} networks for {options.arch[-1]}"] if manifest.networks else []
    print(f"{options.bundle}: {', '.join(what)}, {size / 1e6:.1f} MB")
    print(f"on the machine with the GPU: python3 {options.bundle.name}/run --json FILE")
    return 0
