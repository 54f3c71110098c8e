"""Products of matrices that come out the same, to the last bit, on one thread and on a few.

torch's 1x1 convolutions and products split their sums differently on different numbers of threads; divergences then differ in their last
digits, and with them a plan. In blocks of few rows, of which each is one thread's work, nothing is left to split; where there are
fewer blocks than threads, a bit may still differ.
"""

from __future__ import annotations

import torch

_ROWS = 64


def blocked_product(rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """(M, K) @ (K, N)."""
    whole = len(rows) // _ROWS * _ROWS
    parts = []
    if whole:
        blocks = rows[:whole].reshape(-1, _ROWS, rows.shape[1])
        parts.append(torch.bmm(blocks, matrix.expand(len(blocks), -1, -1)).flatten(0, 1))
    if whole < len(rows) or not whole:
        parts.append(torch.bmm(rows[whole:].unsqueeze(0), matrix.unsqueeze(0))[0])
    return parts[0] if len(parts) == 1 else torch.cat(parts)
