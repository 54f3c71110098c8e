"""A value that is quantized twice in turn: which of the two grids does alone what both do."""

from __future__ import annotations

from tvm_rsq.tensor_quant import TensorQuant


def counting(before: TensorQuant, after: TensorQuant) -> TensorQuant | None:
    """The coarser one, if it is also the narrower one: then the other rounds and clips little that it does not. None: neither does."""
    coarse, fine = (before, after) if after.scale <= before.scale else (after, before)
    (low, high), (least, most), room = _ends(coarse), _ends(fine), coarse.scale / 2
    return coarse if least - room <= low and high <= most + room else None


def said(quant: TensorQuant) -> str:
    """-1.2 ... 1.19 in steps of 0.00937"""
    low, high = _ends(quant)
    return f"{low:.4g} ... {high:.4g} in steps of {quant.scale:.4g}"


def _ends(quant: TensorQuant) -> tuple[float, float]:
    return -quant.zero_point * quant.scale, (2**quant.bits - 1 - quant.zero_point) * quant.scale
