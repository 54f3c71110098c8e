"""The command line of `scripts/fuzz`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.fuzzing.finding import Finding
from scripts.fuzzing.search import Tally, search

_ROOT = Path(__file__).resolve().parents[2]
_ABOUT = (
    "Random networks of one to a dozen operators, quantized in random ways, built for several CPUs: the library equals the simulation bit "
    "for bit, the error is explained by roundings, the file loads, the QDQ export comes back; or the network is refused by name."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 nothing was found; 1 something was."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Random networks through everything, against the simulation and FP32.")
    parser.add_argument("--minutes", type=float, default=5.0, metavar="N", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first process; each has the next (%(default)s)")
    parser.add_argument("--folder", type=Path, default=_ROOT / "build" / "fuzz", metavar="DIR", help="where findings are kept")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="one finding once more, with its traceback")
    parser.add_argument("--json", type=argparse.FileType("w"), metavar="PATH", help="the figures, - for stdout")
    parser.add_argument("--record", action="store_true", help="keep them in docs/reliability.md")
    options = parser.parse_args(arguments)
    if options.replay:
        return _replay(options.replay)
    tally = search(options.minutes * 60, options.seed, options.folder, _tell)
    for reason, path in zip(tally.found, tally.saved, strict=True):
        print(f"found: {reason} ({path}.onnx); scripts/fuzz --replay {path}.json")
    for reason, count in tally.refused.most_common():
        print(f"refused {count} times: {reason}", file=sys.stderr)
    print(f"{tally.tried} networks, {tally.refused.total()} refused by name, {len(tally.found)} findings", file=sys.stderr)
    if options.json:
        json.dump({"tried": tally.tried, "refused": dict(tally.refused), "found": tally.found}, options.json, indent=1)
    if options.record:
        from scripts.survival.record import record

        figures = {"minutes": options.minutes, "refused by name": tally.refused.total()}
        command = f"scripts/fuzz --minutes {options.minutes:g} --seed {options.seed} --record"
        record("random networks", tally.tried, tally.tried - len(tally.found), figures, about=_ABOUT, command=command, seed=options.seed)
    return 1 if tally.found else 0


def _tell(tally: Tally) -> None:
    print(f"\r{tally.tried} networks, {tally.refused.total()} refused, {len(tally.found)} found", end="", file=sys.stderr, flush=True)


def _replay(path: Path) -> int:
    from scripts.fuzzing.properties import check_network

    try:
        found = Finding.load(path)
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {path} is no finding ({error}); name a .json that scripts/fuzz wrote", file=sys.stderr)
        return 1
    print(f"{found.reason}\n{found.case}", file=sys.stderr)
    check_network(found.model, found.case)
    print("all properties hold now", file=sys.stderr)
    return 0
