"""Imported: what both frontends hand over, a Relax function that is not canonical yet, with its parameters by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tvm.ir import IRModule


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """module["main"](inputs..., params...): the first `num_input` parameters are runtime inputs, `params` names the rest."""

    module: IRModule
    num_input: int
    params: Mapping[str, np.ndarray]
