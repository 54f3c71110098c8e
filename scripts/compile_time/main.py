"""The command line of `scripts/bench_compile`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

import tvm_rsq
from scripts.compile_time.stages import Stage, StageClock, total
from scripts.models.fetch import FetchError
from scripts.models.network import Network
from scripts.models.photos import load_photos
from scripts.models.registry import NETWORKS, load
from scripts.output_file import check_writable
from scripts.peers.machine import machine_facts
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.layer_cost import timings_path
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.threads import thread_count

SCHEMA = 1
PARTS = ("quantize", "compile")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 done, 1 failed or beyond a limit; argparse's own 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.samples < 1:
        parser.error(f"--samples is {options.samples}, expected at least 1")
    try:
        if options.json is not None:
            check_writable(options.json)
        stages, size = _measured(options)
        print(table(stages))
        print(f"artifact {size / 1e6:.1f} MB")
        exceeded = beyond(stages, limits(options))
        if options.json is not None:
            _write(options, stages, size, exceeded)
    except (tvm_rsq.Error, FetchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for line in exceeded:
        print(line, file=sys.stderr)
    return 1 if exceeded else 0


def _measured(options: argparse.Namespace) -> tuple[tuple[Stage, ...], int]:
    """The stages, and the artifact's size in bytes."""
    spec, network, clock = parse_target(options.target), load(options.model), StageClock()
    calibration = None if options.calibration == "synthesis" else _images(network, options)
    config = tvm_rsq.QuantConfig(levers=options.levers)
    with tempfile.TemporaryDirectory(prefix="bench-compile-") as folder:
        os.environ["TVM_RSQ_TIMINGS"] = str(timings_path() if options.kept_timings else Path(folder) / "timings.jsonl")
        with clock.part("quantize"):
            found = tvm_rsq.quantize(
                network.model, config, target=spec, example_inputs=network.example_inputs, calibration=calibration, progress=clock.event
            )
        with clock.part("compile"):
            path = Path(folder) / "net.rsq"
            found.compile(spec, progress=clock.event).save(path)
        return clock.stages, path.stat().st_size


def _images(network: Network, options: argparse.Namespace) -> np.ndarray:
    if options.calibration == "photos":
        photos = load_photos()[0]
        if options.samples > len(photos):
            raise FetchError(f"--samples is {options.samples}, expected at most the {len(photos)} photos; give less, or noise")
        return network.preprocessing(photos[: options.samples])
    shape = (options.samples, *network.example_inputs[0].shape[1:])
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def limits(options: argparse.Namespace) -> dict[tuple[str, str], float]:
    """(part, unit) -> the most that is allowed, of what the options limit."""
    given = {
        ("quantize", "s"): options.max_quantize_s, ("compile", "s"): options.max_compile_s,
        ("quantize", "GB"): options.max_memory_gb, ("compile", "GB"): options.max_memory_gb,
    }  # fmt: skip
    return {key: value for key, value in given.items() if value is not None}


def beyond(stages: tuple[Stage, ...], allowed: dict[tuple[str, str], float]) -> list[str]:
    """A line for each limit that a part's wall-clock time or its peak memory is beyond."""
    lines = []
    for (part, unit), most in allowed.items():
        whole = total(stages, part)
        got = whole.wall_s if unit == "s" else whole.peak_bytes / 1e9
        if got > most:
            lines.append(f"{part} took {got:.2f} {unit}, expected at most {most:g} {unit}")
    return lines


def table(stages: tuple[Stage, ...]) -> str:
    """One line for each stage, and one for all of a part."""
    lines = [f"{'':24}{'wall':>9}{'processor':>11}{'peak memory':>13}"]
    for part in PARTS:
        for stage in [s for s in stages if s.part == part] + [total(stages, part)]:
            lines.append(f"{part:10}{stage.stage:14}{stage.wall_s:7.1f} s{stage.cpu_s:9.1f} s{stage.peak_bytes / 1e9:10.2f} GB")
    return "\n".join(lines)


def _write(options: argparse.Namespace, stages: tuple[Stage, ...], size: int, exceeded: list[str]) -> None:
    record = {
        "schema": SCHEMA, "machine": machine_facts(), "model": options.model, "target": options.target, "levers": options.levers,
        "calibration": options.calibration, "samples": options.samples,
        "kept_timings": options.kept_timings, "threads": thread_count(), "artifact_bytes": size,
        "stages": [asdict(stage) for stage in (*stages, *(total(stages, part) for part in PARTS))], "beyond": exceeded,
    }  # fmt: skip
    with atomic_write(options.json) as partial_file:
        partial_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench_compile", description="What quantizing and compiling a network takes.")
    parser.add_argument("model", choices=sorted(NETWORKS), metavar="MODEL", help=f"one of {', '.join(NETWORKS)}")
    parser.add_argument("--target", default="llvm", help="as in tvm-rsq compile (%(default)s)")
    parser.add_argument("--levers", default="auto", choices=("auto", "none"), help="as in tvm-rsq compile (%(default)s)")
    parser.add_argument("--calibration", default="noise", choices=("noise", "photos", "synthesis"), help="(%(default)s)")
    parser.add_argument("--samples", type=int, default=16, metavar="N", help="of noise or photos (%(default)s)")
    parser.add_argument("--kept-timings", action="store_true", help="read this machine's kernel times; without it, kernels are timed anew")
    parser.add_argument("--max-quantize-s", type=float, metavar="S", help="fail if quantizing takes longer")
    parser.add_argument("--max-compile-s", type=float, metavar="S", help="fail if the way from quantized network to artifact takes longer")
    parser.add_argument("--max-memory-gb", type=float, metavar="GB", help="fail if the process holds more at any time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all of that there")
    return parser
