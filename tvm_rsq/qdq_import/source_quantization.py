"""SourceQuantization: what a QDQ network says of its own quantization, in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tvm_rsq.tensor_quant import TensorQuant

if TYPE_CHECKING:
    from tvm_rsq.model import Model


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredWeight:
    """A weight as the file stores it.   weight = scale * integers

    integers    int16 of the 8 bits in the file, in its layout; unsigned ones less the middle of their range
    scale       float32 (O,), or (1,)
    book        the integers that it may be, ascending, where the file has a codebook; else ()
    zero_point  0, or the first other one: such a weight is asymmetric, and no layer of ours can have it
    """

    integers: np.ndarray
    scale: np.ndarray
    book: tuple[int, ...] = ()
    zero_point: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceQuantization:
    """Scales of a network that was quantized elsewhere.

    weights  parameter -> how it is stored
    tensors  the file's name of an activation -> its quantization, in execution order
    twice    of them, those that the file quantizes another way as well
    probe    the same float network with these activations as its first outputs, in their order; None where there are none
    """

    weights: Mapping[str, StoredWeight]
    tensors: Mapping[str, TensorQuant]
    probe: Model | None
    twice: tuple[str, ...] = ()
