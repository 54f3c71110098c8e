"""Rounding with error feedback: each weight's rounding error is made up for by the weights that are not yet rounded.

    minimise  (q s - w)^T M (q s - w)        row by row, M the second moments of the layer's inputs (see layer_moments)

Optimal brain compression's greedy solution in the order of decreasing diagonal, by one Cholesky factor of M's inverse (Frantar et al.,
"GPTQ", ICLR 2023, algorithm 1): after weight j is rounded, the rest moves by  -e_j U_j,: / U_jj,  U the upper factor. No data beyond M, no
gradients: seconds for a network. Small rows (depthwise kernels) are polished by coordinate descent until no single change helps.
"""

from __future__ import annotations

import torch

_BLOCK = 128  # columns whose updates of what is behind them are done as one product
DAMPING = 0.02  # of the mean of M's diagonal, added to it: a few images do not span all directions
_POLISHED = 32  # longest row that is polished
_ROUNDS = 20


def round_with_feedback(weight: torch.Tensor, moments: torch.Tensor, scale: torch.Tensor, levels: int | torch.Tensor) -> torch.Tensor:
    """float64 (O, K), some of the levels.

    weight   float64 (O, K)
    moments  float64 (G, K, K): row r has those of group r // (O / G)
    scale    float64 (O,), positive
    levels   what q may be: float64 (O, L), or (1, L), ascending; a number n is all whole numbers from -n to n
    """
    groups, size = moments.shape[:2]
    damping = DAMPING * moments.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    damped = moments + damping[:, None, None] * torch.eye(size, dtype=torch.float64)
    rows, scales = weight.reshape(groups, -1, size), scale.reshape(groups, -1)
    books = levels if isinstance(levels, int) else levels.expand(len(weight), -1).reshape(groups, rows.shape[1], -1)
    order = damped.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True)
    sorted_moments = damped.gather(1, order[:, :, None].expand(-1, -1, size)).gather(2, order[:, None, :].expand(-1, size, -1))
    found = _feedback(rows.gather(2, order[:, None, :].expand_as(rows)), sorted_moments, scales, books)
    q = torch.empty_like(rows).scatter_(2, order[:, None, :].expand_as(rows), found)
    if size <= _POLISHED:
        q = _polish(q, rows, damped, scales, books)
    return q.reshape(weight.shape)


def _feedback(rows: torch.Tensor, moments: torch.Tensor, scale: torch.Tensor, levels: int | torch.Tensor) -> torch.Tensor:
    """(G, O/G, K), the columns in order."""
    size = moments.shape[1]
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments))
    upper = torch.linalg.cholesky(inverse, upper=True)
    left, q = rows.clone(), torch.empty_like(rows)
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        errors = torch.empty_like(left[:, :, start:stop])
        for j in range(start, stop):
            q[:, :, j] = _closest(left[:, :, j] / scale, levels)
            error = (left[:, :, j] - q[:, :, j] * scale) / upper[:, j, j, None]
            left[:, :, j + 1 : stop] -= error[:, :, None] * upper[:, None, j, j + 1 : stop]
            errors[:, :, j - start] = error
        left[:, :, stop:] -= errors @ upper[:, start:stop, stop:]
    return q


def _polish(
    q: torch.Tensor, rows: torch.Tensor, moments: torch.Tensor, scale: torch.Tensor, levels: int | torch.Tensor
) -> torch.Tensor:  # fmt: skip
    for _ in range(_ROUNDS):
        before = q.clone()
        for j in range(q.shape[2]):
            delta = q * scale[:, :, None] - rows
            others = (delta @ moments[:, :, j, None]).squeeze(2) - delta[:, :, j] * moments[:, j, j, None]
            best = rows[:, :, j] - others / moments[:, j, j, None]
            q[:, :, j] = _closest(best / scale, levels)
        if torch.equal(before, q):
            break
    return q


def _closest(values: torch.Tensor, levels: int | torch.Tensor) -> torch.Tensor:
    """(G, O/G): of each row's levels (G, O/G, L) the closest to its value."""
    if isinstance(levels, int):
        return values.round().clamp(-levels, levels)
    bounds = (levels[:, :, 1:] + levels[:, :, :-1]) / 2
    return levels.gather(2, (values[:, :, None] >= bounds).sum(2, keepdim=True)).squeeze(2)
