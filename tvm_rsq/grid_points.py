"""A grid's points under every element of a weight, for torch: by place, 0 the smallest."""

from __future__ import annotations

import torch

from tvm_rsq.weight_grid import WeightGrid


class GridPoints:
    """weight: whose shape and device count; axis: of output channels. Places are int64 of the weight's shape, real values in units of the
    scale.
    """

    def __init__(self, grid: WeightGrid, weight: torch.Tensor, axis: int) -> None:
        self._axis, outputs = axis, weight.shape[axis]
        levels = torch.from_numpy(grid.levels(outputs)).to(weight.device)
        self._levels = levels.expand(outputs, -1).contiguous()
        # Books with less entries repeat the last one, which has one place all the same.
        count = 1 + (self._levels.diff(dim=1) > 0).sum(1)
        self._last = (count - 1).reshape([-1 if i == axis else 1 for i in range(weight.ndim)])

    def below(self, real: torch.Tensor) -> torch.Tensor:
        """Places of the points at or below, the first and the last but one at the ends: the place after it exists."""
        return self._count(self._levels, real).sub(1).clamp(min=0).minimum((self._last - 1).clamp(min=0))

    def closest(self, real: torch.Tensor) -> torch.Tensor:
        """Places of the closest points."""
        return self._count((self._levels[:, 1:] + self._levels[:, :-1]) / 2, real).minimum(self._last)

    def value(self, place: torch.Tensor) -> torch.Tensor:
        """float32, the points themselves; that of the last place beyond it."""
        rows = self._rows(place.minimum(self._last))
        return self._back(self._levels.gather(1, rows), place.shape)

    def _count(self, bounds: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        found = torch.searchsorted(bounds.contiguous(), self._rows(real), right=True)
        return self._back(found, real.shape)

    def _rows(self, values: torch.Tensor) -> torch.Tensor:
        return values.movedim(self._axis, 0).flatten(1).contiguous()

    def _back(self, rows: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        others = [extent for i, extent in enumerate(shape) if i != self._axis]
        return rows.reshape(len(rows), *others).movedim(0, self._axis)
