"""Products of matrices, and sums of their columns, that come out the same, to the last bit, on one thread and on a few.

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


def column_sums(rows: torch.Tensor) -> torch.Tensor:
    """float64 (C,) of (M, C): float32 within a block, as a product with ones, float64 over the blocks."""
    whole = len(rows) // _ROWS * _ROWS
    rest = rows[whole:].to(torch.float64).sum(0)
    if not whole:
        return rest
    blocks = rows[:whole].reshape(-1, _ROWS, rows.shape[1])
    return torch.bmm(blocks.new_ones(1, 1, _ROWS).expand(len(blocks), -1, -1), blocks)[:, 0].to(torch.float64).sum(0) + rest
