"""A gradient-boosted model of how fast a choice is, from its knobs and the workload's numbers.

MetaSchedule's XGBModel cannot be driven here: it wants a TuneContext, which imports TVM's tensor intrinsics (over ten seconds); it
draws from numpy's global generator; and it trains up to 10 000 rounds with an objective in Python. Same library, same idea.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from tvm_rsq.targets.choice import Choice, to_knobs
from tvm_rsq.targets.workload import Conv2DWorkload

if TYPE_CHECKING:
    import xgboost

_LEAST = 12  # samples below which a model would only repeat them
_ROUNDS = 80
_PARAMETERS = {"max_depth": 6, "eta": 0.15, "min_child_weight": 1, "subsample": 0.9, "nthread": 1, "tree_method": "hist"}


class CostModel:
    """Learns log(time / time of the workload's untuned choice), so that workloads of all sizes teach each other."""

    def __init__(self, seed: int) -> None:
        self._parameters = {**_PARAMETERS, "seed": seed}
        self._rows: list[dict[str, float]] = []
        self._ratios: list[float] = []
        self._columns: list[str] = []
        self._booster: xgboost.Booster | None = None
        self._trained = 0

    def add(self, w: Conv2DWorkload, choice: Choice, ratio: float) -> None:
        """One measurement: time / untuned time."""
        self._rows.append(features(w, choice))
        self._ratios.append(math.log(ratio))

    def predict(self, w: Conv2DWorkload, choices: Sequence[Choice]) -> np.ndarray | None:
        """float32 (len(choices),), smaller is faster; None while too little is known."""
        self._train()
        if self._booster is None:
            return None
        import xgboost  # here, because compiling without tuning needs none of it

        return self._booster.predict(xgboost.DMatrix(self._matrix([features(w, choice) for choice in choices])))

    def _train(self) -> None:
        # Each batch of a long search adds little, and training grows with the number of rows.
        if len(self._rows) < max(_LEAST, self._trained + 4, math.ceil(1.05 * self._trained)):
            return
        import xgboost

        self._trained = len(self._rows)
        self._columns = sorted({name for row in self._rows for name in row})
        data = xgboost.DMatrix(self._matrix(self._rows), label=np.array(self._ratios, np.float32))
        self._booster = xgboost.train(self._parameters, data, num_boost_round=_ROUNDS)

    def _matrix(self, rows: Sequence[dict[str, float]]) -> np.ndarray:
        return np.array([[row.get(name, math.nan) for name in self._columns] for row in rows], np.float32)


def features(w: Conv2DWorkload, choice: Choice) -> dict[str, float]:
    """Name -> number. A knob's text becomes a name of its own; what an algorithm lacks is left out."""
    found = {
        "rows": w.batch * w.out_height, "cols": w.out_width, "in": w.in_channels / w.groups, "out": w.out_channels / w.groups,
        "groups": w.groups, "kernel": w.kernel[0] * w.kernel[1], "stride": w.stride[0], "macs": math.log(w.macs),
    }  # fmt: skip
    knobs: dict[str, object] = {f"epilogue.{name}": value for name, value in asdict(w.epilogue).items()}
    knobs |= {f"choice.{name}": value for name, value in to_knobs(choice).items()}
    knobs["accumulate16"] = w.accumulate16
    for name, value in knobs.items():
        if isinstance(value, str):
            found[f"{name}={value}"] = 1.0
        elif isinstance(value, (int, float)) and math.isfinite(value):
            found[name] = float(value)
    if "choice.cols" in found:
        found["rest of cols"] = w.out_width % found["choice.cols"]
    if "choice.lanes" in found and "choice.vecs" in found:
        width = found["choice.lanes"] * found["choice.vecs"]
        found |= {"block": width, "rest of block": (w.out_channels / w.groups) % width, "accumulators": found.get("choice.cols", 1) * width}
    return found
