"""Build: one compiled form of a network, ours or a peer's, behind one interface; and the error of this program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


class PeerError(Exception):
    """Something that the benchmark needs and does not have; the message is one line for the user."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Build:
    """A network that runs.

    name      "hybrid", "per_channel", "onnxruntime int8 plain", ...
    run       float32 input (batch, C, H, W) -> logits (batch, classes), numpy on both sides: what is compared
    bound_us  input -> microseconds of one call whose tensors are in the runtime's hands already, after one that is not timed
    """

    name: str
    run: Callable[[np.ndarray], np.ndarray]
    bound_us: Callable[[np.ndarray], float]
