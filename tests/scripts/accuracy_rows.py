"""Rows made up for the tests of what is made of rows."""

from __future__ import annotations

import time

from scripts.accuracy.case import Bits, Case
from scripts.accuracy.row import INTEGER_LIBRARY, Evaluated, Row

EVALUATED = Evaluated(labelled="CIFAR-10 test", samples=10000, weights="0123456789ab")


def row(
    network: str = "resnet20-cifar", bits: str = "W8A8", method: str = "ours", scheme: str = "per_channel", source: str = "retro-synthesis",
    *, seed: int = 0, top1: float | None = 0.92, agreement: float = 0.99, **values: object,
) -> Row:  # fmt: skip
    """Of an FP32 top-1 of 92.5 %."""
    weights, activations = Bits.parse(bits)
    case = Case(
        network=network, weight_bits=weights, activation_bits=activations, method=method, scheme=scheme, source=source, seed=seed
    )
    usual = {
        "images": 16, "synthesis_s": 10.0, "quantization_s": 5.0, "top1_fp32": None if top1 is None else 0.925, "top1": top1,
        "agreement": agreement, "kl": 0.001, "evaluated_as": INTEGER_LIBRARY, "float_layers": 0, "peak_bytes": 10**9, "threads": 2,
        "wall_s": 20.0, "cpu": "some CPU", "synthesis_cpu": "some CPU", "commit": "0b95e53",
    }  # fmt: skip
    return Row(case=case, evaluated=EVALUATED, **{**usual, **values})


def late_division(a: float, b: float) -> float:
    """a / b; by zero only after everything else is done."""
    if not b:
        time.sleep(0.5)
    return a / b
