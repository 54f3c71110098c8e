"""Quantize one network in every way of variants.py, build all for one target, compare their answers and time them in turns."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

import tvm_rsq
from scripts.levers.table import Row, markdown, record, used
from scripts.levers.variants import BASELINE, variants
from scripts.models.fetch import FetchError
from scripts.models.network import Network
from scripts.models.photos import load_photos
from scripts.models.registry import NETWORKS, load
from scripts.output_file import check_writable
from scripts.turns import in_turns, paired_ratio, wait_until_idle
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.fidelity import compare, in_batches
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import TargetSpec, host_supports
from tvm_rsq.threads import thread_count, use_threads


def main(arguments: list[str] | None = None) -> int:
    """0 done, 1 failed; argparse's own 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.repeat < 1:
        parser.error(f"--repeat is {options.repeat}, expected at least 1")
    try:
        spec = parse_target(options.target)
        if lacking := host_supports(spec):
            print(f"error: this machine lacks {', '.join(lacking[:4])} and cannot run {spec.name}", file=sys.stderr)
            return 1
        for path in filter(None, (options.markdown, options.json)):
            check_writable(path)
        rows = _rows(options, spec)
        facts = {"model": options.model, "target": spec.name, "threads": thread_count(), "budget": options.budget}
        text = markdown(rows, network=options.model, target=spec.name, threads=thread_count())
        print(text, end="")
        _write(options.markdown, text)
        _write(options.json, json.dumps(record(rows, facts), indent=1) + "\n")
    except (tvm_rsq.Error, FetchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        with atomic_write(path) as partial_file:
            partial_file.write_text(text, encoding="utf-8")


def _rows(options: argparse.Namespace, spec: TargetSpec) -> list[Row]:
    use_threads()
    network = load(options.model)
    calibration = CalibrationSet.load(options.calibration) if options.calibration else None
    config = tvm_rsq.QuantConfig(budget=options.budget)
    builds, plans, float_build = {}, {}, None
    for name, variant in variants(spec.library.levers, config).items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        found = tvm_rsq.quantize(network.model, variant, target=spec, example_inputs=network.example_inputs, calibration=calibration)
        calibration = found.calibration  # of the first for all
        builds[name], plans[name] = found.compile(spec), found.plan
        float_build = float_build or tvm_rsq.build_float(found, spec)
    images, source = _images(network, calibration)
    reference = in_batches(float_build.run, (images,), 1)
    close = {name: compare(reference, in_batches(build.run, (images,), 1), source=source) for name, build in builds.items()}
    calls = {name: partial(build.run, images[:1]) for name, build in builds.items()}
    times = in_turns(calls, options.repeat, quiet=wait_until_idle if thread_count() > 1 else None)
    return [
        Row(
            variant=name, times_us=times[name], ratio=paired_ratio(times[name], times[BASELINE]),
            agreement=close[name].agreement, kl=close[name].kl, source=source, layers=used(plans[name]),
        )
        for name in builds
    ]  # fmt: skip


def _images(network: Network, calibration: CalibrationSet) -> tuple[np.ndarray, str]:
    """Photos where they are cached and the network takes such, else the calibration inputs."""
    try:
        photos = network.preprocessing(load_photos()[0])
    except FetchError:
        photos = None
    if photos is not None and photos.shape[1:] == tuple(network.example_inputs[0].shape[1:]):
        return photos, f"{len(photos)} photos"
    return calibration.inputs[0], f"{len(calibration)} calibration inputs"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/ablation", description="What each lever of hybrid quantization gives, and all together.")
    parser.add_argument("model", choices=sorted(NETWORKS), metavar="MODEL", help=f"one of {', '.join(NETWORKS)}")
    parser.add_argument("--target", default="llvm", help="as in tvm-rsq compile; it has to run here (%(default)s)")
    parser.add_argument("--budget", type=float, default=0.05, help="divergence that levers may add, as a fraction (%(default)s)")
    parser.add_argument("--calibration", type=Path, metavar="NPZ", help="a set saved by tvm-rsq synthesize; without it, retro-synthesis")
    parser.add_argument("--repeat", type=int, default=100, help="timed calls of every build (%(default)s)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write raw times and all facts")
    return parser
