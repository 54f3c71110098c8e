"""Choice: one way to make a convolution kernel, as a frozen value that a tuner can vary and a database can hold.

Every choice of one workload computes the same integers; they differ in time only. A new algorithm is a new dataclass here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TypeAlias

from tvm_rsq.targets.cuda.gemm_tile import GemmTile
from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.generic.winograd_tile import WinogradTile

Choice: TypeAlias = Tile | WinogradTile | DepthwiseTile | GemmTile

_ALGORITHMS: Mapping[str, type] = {"direct": Tile, "winograd": WinogradTile, "depthwise": DepthwiseTile, "gemm": GemmTile}


def to_knobs(choice: Choice) -> dict[str, int | str]:
    """{"algorithm": "direct", "lanes": 16, ...}: what `from_knobs` reads."""
    algorithm = next(name for name, kind in _ALGORITHMS.items() if type(choice) is kind)
    return {"algorithm": algorithm, **asdict(choice)}


def from_knobs(knobs: Mapping[str, int | str]) -> Choice:
    """The choice that `to_knobs` wrote.   ValueError: an unknown algorithm, or knobs that it does not have."""
    values = dict(knobs)
    kind = _ALGORITHMS.get(str(values.pop("algorithm", "")))
    if kind is None:
        raise ValueError(f"algorithm is {knobs.get('algorithm')!r}, expected one of {', '.join(_ALGORITHMS)}; tune again")
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"knobs {values} do not fit {kind.__name__} ({error}); tune again") from error
