"""Imported: what both frontends hand over, a Relax function that is not canonical yet, with its parameters by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tvm.ir import IRModule

from tvm_rsq.qdq_import.source_quantization import StoredWeight
from tvm_rsq.tensor_quant import TensorQuant


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """module["main"](inputs..., params...): the first `num_input` parameters are runtime inputs, `params` names the rest.

    quantization  what the source says of its own, None where it is a float network
    """

    module: IRModule
    num_input: int
    params: Mapping[str, np.ndarray]
    quantization: ImportedQuantization | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedQuantization:
    """weights: parameter -> how it is stored; tensors: by the source's names; probe: the network whose first outputs they are,
    None of none; twice: tensors that the source quantizes another way as well."""

    weights: Mapping[str, StoredWeight]
    tensors: Mapping[str, TensorQuant]
    probe: Imported | None
    twice: tuple[str, ...] = ()
