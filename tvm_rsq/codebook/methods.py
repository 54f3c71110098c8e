"""The ways to find levels, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tvm_rsq.codebook.clustered import clustered_levels
from tvm_rsq.codebook.fixed_levels import additive_power_levels, power_levels, uniform_levels
from tvm_rsq.codebook.kmeans import kmeans_levels
from tvm_rsq.codebook.levels import Levels


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelMethod:
    """find: see Levels; fixed: whether its levels are the same whatever the weights, and only the scale is to be found"""

    find: Levels
    fixed: bool = False


METHODS: Mapping[str, LevelMethod] = {
    "kmeans": LevelMethod(find=kmeans_levels),
    "clustered": LevelMethod(find=clustered_levels),
    "uniform": LevelMethod(find=uniform_levels, fixed=True),
    "powers": LevelMethod(find=power_levels, fixed=True),
    "additive_powers": LevelMethod(find=additive_power_levels, fixed=True),
}
