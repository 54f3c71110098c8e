"""Model: a network as the rest of tvm_rsq sees it, a Relax function with named parameters.

    module["main"](input_0, ..., input_k, param_0, ..., param_n) -> Tensor | Tuple of Tensors

The body is one dataflow block of calls in A-normal form. Every binding variable has a unique name, which is how
tensors are called in plans and reports; a layer (convolution or dense) is called by its weight parameter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from tvm.ir import IRModule

if TYPE_CHECKING:
    from tvm_rsq.qdq_import.source_quantization import SourceQuantization


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """One runtime input or output: its name, static shape and dtype ("float32")."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A network.   len(module["main"].params) == len(inputs) + len(params), inputs first.

    module   Relax IRModule with the single function "main"
    params   parameter name -> array, in the order of the function's parameters, names equal to the Relax variables'
    inputs   the runtime inputs, in order
    name     how reports call the network
    quantization  what the source says of its own quantization; None of a float network
    """

    module: IRModule
    params: Mapping[str, np.ndarray]
    inputs: tuple[InputSpec, ...]
    name: str = "network"
    quantization: SourceQuantization | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        names = [var.name for var in self.module["main"].params]
        expected = [spec.name for spec in self.inputs] + list(self.params)
        if names != expected:
            raise ValueError(f"main's parameters are {names[:8]}..., expected {expected[:8]}...: inputs, then params in order")

    @property
    def outputs(self) -> tuple[InputSpec, ...]:
        """The results, called output_0 and so on, in order."""
        types = self.module["main"].ret_ty
        parts = types.fields if hasattr(types, "fields") else [types]
        shapes = [tuple(int(extent) for extent in part.shape) for part in parts]
        named = enumerate(zip(parts, shapes, strict=True))
        return tuple(InputSpec(name=f"output_{i}", shape=shape, dtype=str(part.dtype)) for i, (part, shape) in named)

    @property
    def network_hash(self) -> str:
        """sha256 over the printed IR and the bytes of every parameter (hex)."""
        digest = hashlib.sha256(self.module.script(show_meta=True).encode())
        for name, value in self.params.items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()
