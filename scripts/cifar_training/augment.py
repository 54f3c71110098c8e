"""Random windows of images, mirrored or not, read straight from their uint8 pixels."""

from __future__ import annotations

import torch


def random_windows(images: torch.Tensor, side: int, jut: int, generator: torch.Generator) -> torch.Tensor:
    """A window of every image: uint8 (N, H, W, 3) -> uint8 (N, 3, side, side), channels last in memory.

    side  of the square window, in pixels
    jut   by how many pixels a window may reach over an edge; the image is reflected there

    Half of the windows are mirrored. Same generator state, same windows.
    """
    count, height, width = images.shape[:3]
    rows = _positions(count, height, side, jut, generator)
    columns = _positions(count, width, side, jut, generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    windows = images[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return windows.permute(0, 3, 1, 2)


def _positions(count: int, size: int, side: int, jut: int, generator: torch.Generator) -> torch.Tensor:
    """int64 (count, side): consecutive positions along an edge of `size` pixels, reflected at its ends."""
    first = torch.randint(-jut, size - side + jut + 1, (count, 1), generator=generator)
    positions = (first + torch.arange(side)).abs()
    return (size - 1) - ((size - 1) - positions).abs()
