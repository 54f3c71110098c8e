"""The command line of the second step, which also runs out of a bundle, without the project."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from scripts.device_run.case import BundleError, read_manifest
from scripts.device_run.driver import LIBRARY, CudaError, Driver
from scripts.device_run.measure import measure
from scripts.device_run.network_case import NetworkCase
from scripts.device_run.networks import measure_networks
from scripts.device_run.runtime import load_runtime


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
    parser.add_argument("--inferences", type=int, default=200, metavar="N", help="timed of each network; 0: only check (%(default)s)")
    parser.add_argument("--no-torch", action="store_true", help="do not compare networks with PyTorch, where that is installed")
    parser.add_argument("--driver", default=LIBRARY, metavar="LIBRARY", help="%(default)s")
    options = parser.parse_args(arguments)
    bundle = bundle or options.bundle
    if options.repeat < 0:
        parser.error(f"--repeat is {options.repeat}, expected 0 or more")
    try:
        manifest = read_manifest(bundle)
        cases = [case for case in manifest.cases if re.search(options.only, case.name)]
        networks = [case for case in map(_network_case, manifest.networks) if re.search(options.only, case.name)]
        if not cases and not networks:
            names = [case["network"] for case in manifest.networks] + [case.name for case in manifest.cases]
            parser.error(f"--only {options.only}: no such case; there are {', '.join(names)}")
        found = measure(bundle, manifest, cases, Driver(options.driver), repeat=options.repeat, note=_show)
        if networks:
            with tempfile.TemporaryDirectory() as folder:
                found["networks"] = measure_networks(
                    bundle, load_runtime(bundle, Path(folder)), networks, repeat=options.inferences, torch=not options.no_torch,
                    note=_show_network,
                )  # fmt: skip
        if options.json is not None:
            _write(options.json, found)
    except (BundleError, CudaError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    wrong = [each["name"] for each in found["rows"] if not each["exact"]]
    wrong += [_name(each) for each in found.get("networks", ()) if each["error"] and each["exact"] is not None]
    device = found["device"]
    told = f"{len(wrong)} wrong: {', '.join(wrong)}" if wrong else "all right"
    print(f"{device['name']}, driver {device['driver']}: {len(cases)} kernels, {len(networks)} networks, {told}")
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


def _network_case(values: dict[str, Any]) -> NetworkCase:
    model = values["model"]
    return NetworkCase(**{**values, "shape": tuple(values["shape"]), "model": None if model is None else tuple(model)})


def _name(row: dict[str, Any]) -> str:
    return f"{row['network']} batch {row['batch']} {row['build']}"


def _show_network(row: dict[str, Any]) -> None:
    said = "" if row["exact"] is None else "equal, " if row["exact"] else f"differs by {row['largest_difference']:.3g}, "
    time = "not timed" if row["median_us"] is None else f"{row['median_us']:.1f} us"
    print(f"{_name(row)}: {said}{row['error'] or time}", flush=True)


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
    lists = {name: rows for name, rows in found.items() if name in ("rows", "networks")}
    head = json.dumps({name: value for name, value in found.items() if name not in lists}, indent=1)[:-2]
    parts = [f' "{name}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]" for name, rows in lists.items()]
    return ",\n".join([head, *parts]) + "\n}\n"
