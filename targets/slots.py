"""Which output channel every slot of a packed weight is of, as Kernel.spread says, and what comes of a weight's codes."""

from __future__ import annotations

import numpy as np

from tvm_rsq.targets.kernel import Kernel

_BASE = 100  # channels are packed digit by digit, since packed weights may be int8


def slot_channels(kernel: Kernel, shape: tuple[int, ...]) -> np.ndarray:
    """int64 (A, P): output channels.   shape: of the OHWI weight

    Channel 0 is that of slots that only fill up.
    """
    channels = np.arange(shape[0])
    a, r, p, d = _spread(kernel)

    def packed(digits: np.ndarray) -> np.ndarray:
        whole = np.broadcast_to(digits.astype(np.int8)[:, None, None, None], shape)
        return kernel.pack_weight(np.ascontiguousarray(whole)).reshape(a, r, p, d).max(axis=(1, 3)).astype(np.int64)

    found = np.maximum(packed(channels % _BASE + 1) - 1, 0)  # what fills up is 0, and so no digit
    unit = _BASE
    while unit < shape[0]:
        found += unit * packed(channels // unit % _BASE)
        unit *= _BASE
    return found


def packed_codes(kernel: Kernel, codes: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """uint8, of the packed weight's values in their order, flat.

    codes  uint8 OHWI, below 127
    zero   uint8 (A, P): the code of 0 in each slot, which is what fills up
    """
    a, r, p, d = _spread(kernel)
    packed = kernel.pack_weight((codes + 1).astype(np.int8)).reshape(a, r, p, d)
    return np.where(packed > 0, packed - 1, zero[:, None, :, None]).astype(np.uint8).reshape(-1)


def _spread(kernel: Kernel) -> tuple[int, int, int, int]:
    if kernel.spread is None:
        raise ValueError(f"the weight of {kernel.name} has no slots, expected a kernel with a spread")
    return kernel.spread
