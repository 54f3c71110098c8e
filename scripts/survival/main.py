"""The command line of `scripts/reliability`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from scripts.models.fetch import FetchError
from scripts.survival import experiments
from scripts.survival.experiments import Tally
from scripts.survival.record import ROOT, record
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.errors import Error

Experiment = Callable[[int, int, Path, Callable[[str], None]], Tally]
EXPERIMENTS: Mapping[str, tuple[str, int, Experiment]] = {
    "onnx": ("hostile ONNX files", 1000, experiments.onnx),
    "artifacts": ("hostile artifacts", 1000, experiments.artifacts),
    "kill": ("kill -9", 50, experiments.kill),
    "together": ("two at once", 5, experiments.at_once),
    "determinism": ("determinism", 1, experiments.determinism),
    "soak": ("long soak", 20_000, experiments.long_soak),
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """SystemExit(2): wrong usage, told in a line."""
    parser = argparse.ArgumentParser(
        prog="reliability", description="Hurt the compiler on purpose, count what survives, and write it into docs/reliability.md."
    )
    parser.add_argument("experiment", choices=[*EXPERIMENTS, "all"], help="what to do to it")
    parser.add_argument("--count", type=int, metavar="N", help="cases (" + ", ".join(f"{k} {v[1]}" for k, v in EXPERIMENTS.items()) + ")")
    parser.add_argument("--seed", type=int, default=0, help="of what is random (%(default)s)")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR", help="where the row and the page go (docs)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows of this run there")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 all survived, 1 something did not or the work failed, 130 interrupted."""
    args = parse(arguments)
    rows = []
    try:
        for name in EXPERIMENTS if args.experiment == "all" else [args.experiment]:
            title, usual, experiment = EXPERIMENTS[name]
            with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
                count = args.count or usual
                tally = experiment(count, args.seed, Path(folder), _say)
            row = record(
                title, tally.tried, tally.survived, tally.figures, about=tally.about, command=f"scripts/reliability {name} --count {count}",
                seed=args.seed, docs=args.docs,
            )  # fmt: skip
            rows.append(asdict(row))
            print(f"{title}: {row.survived} of {row.tried} survived; " + "; ".join(f"{k}: {v}" for k, v in row.figures.items()))
    except (Error, FetchError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if args.json is not None:
        with atomic_write(args.json) as partial:
            partial.write_text(json.dumps({"schema": 1, "rows": rows}, indent=1) + "\n", "utf-8")
    return int(any(row["survived"] < row["tried"] for row in rows))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
