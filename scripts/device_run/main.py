"""The command line of the second step, which also runs out of a bundle, without the project."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from scripts.device_run.case import BundleError, read_manifest
from scripts.device_run.driver import LIBRARY, CudaError, Driver
from scripts.device_run.measure import measure


def main(arguments: Sequence[str] | None = None, bundle: Path | None = None) -> int:
    """0 every kernel is right, 1 one is not, or nothing could be measured; argparse's own 2 for wrong usage.

    bundle  where this runs from; None: it is the first argument
    """
    parser = argparse.ArgumentParser(description="Check every kernel of a bundle on this machine's GPU, then time it.")
    if bundle is None:
        parser.add_argument("bundle", type=Path, help="a folder that scripts/device_bench pack made")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there")
    parser.add_argument("--only", default="", metavar="REGEX", help="cases whose names it is found in")
    parser.add_argument("--repeat", type=int, default=30, metavar="N", help="graphs of launches timed of each; 0: only check (%(default)s)")
    parser.add_argument("--driver", default=LIBRARY, metavar="LIBRARY", help="%(default)s")
    options = parser.parse_args(arguments)
    bundle = bundle or options.bundle
    if options.repeat < 0:
        parser.error(f"--repeat is {options.repeat}, expected 0 or more")
    try:
        manifest = read_manifest(bundle)
        cases = [case for case in manifest.cases if re.search(options.only, case.name)]
        if not cases:
            parser.error(f"--only {options.only}: no such case; there are {', '.join(case.name for case in manifest.cases)}")
        found = measure(bundle, manifest, cases, Driver(options.driver), repeat=options.repeat, note=_show)
        if options.json is not None:
            _write(options.json, found)
    except (BundleError, CudaError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    wrong = [each["name"] for each in found["rows"] if not each["exact"]]
    device = found["device"]
    told = f"{len(wrong)} wrong: {', '.join(wrong)}" if wrong else "all right"
    print(f"{device['name']}, driver {device['driver']}: {len(cases)} kernels, {told}")
    return 1 if wrong else 0


def _show(row: dict[str, Any]) -> None:
    if not row["exact"]:
        print(f"{row['name']}: WRONG, {row['wrong_bytes']} bytes", flush=True)
    elif row["time_us"] is None:
        print(f"{row['name']}: right", flush=True)
    else:
        print(
            f"{row['name']}: {row['cache']} {median(row['time_us']):.2f} us, {row['gb_per_s']:.0f} GB/s, {row['of_copy']:.2f} of a copy's; "
            f"{row['time_over_copy']:.2f} of the time of copying what it writes",
            flush=True,
        )


def _write(path: Path, found: dict[str, Any]) -> None:
    # The package's own atomic_write is not in a bundle.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(_text(found), encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _text(found: dict[str, Any]) -> str:
    """JSON, a row a line."""
    rows = ",\n".join(json.dumps(row) for row in found["rows"])
    return json.dumps({**found, "rows": []}, indent=1)[:-4] + f"[\n{rows}\n]}}\n"
