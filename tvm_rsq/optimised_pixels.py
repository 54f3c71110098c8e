"""Images whose pixels themselves are optimised: `CosinePixels` for retro-synthesis, `PlateauPixels` for ZeroQ.

All are normalised, of mean 0 and standard deviation 1 where the network's own scale is offset + gain * normalised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

PIXEL_REACH = 2.7  # of ImageNet's normalised pixels, 0 to 255: -2.12 to 2.64
_IMAGE_CHANNELS = 4  # the most that an image has; a tensor of more channels is something else, and may have any values
_PLATEAU_STEPS, _LEAST_RATE = 100, 1e-4  # ZeroQ's distill_data.py, and GENIE's distill.py after it


class CosinePixels:
    """Adam or one of its kin, whose learning rate falls along half a cosine to 0; then, if asked, a little smoothing.

    images     leaves, one (N, ...) per input, changed in place
    optimizer  parameters, lr -> torch optimiser
    steps      for how many the schedule is
    low_pass   strength of the smoothing at the first step; it falls as the learning rate does

    Pixels stay within PIXEL_REACH deviations, as those of photos do: a brightness has ends. Without, the optimiser reaches three times as
    far, and the first layer's input has a grid three times as coarse as it should be.
    """

    def __init__(
        self, images: Sequence[torch.Tensor], optimizer: Callable[..., torch.optim.Optimizer], *, learning_rate: float, steps: int,
        low_pass: float,
    ) -> None:  # fmt: skip
        self._images = [value.requires_grad_() for value in images]
        self._optimizer = optimizer(self._images, lr=learning_rate)
        self._learning_rate, self._steps, self._low_pass = learning_rate, steps, low_pass
        self._cosine = 1.0

    def render(self) -> list[torch.Tensor]:
        return self._images

    def prepare(self, step: int) -> None:
        self._cosine = (1 + math.cos(math.pi * step / self._steps)) / 2
        self._optimizer.param_groups[0]["lr"] = self._learning_rate * self._cosine
        self._optimizer.zero_grad(set_to_none=True)

    def advance(self, _total: float) -> None:
        self._optimizer.step()
        if self._low_pass:
            _smooth(self._images, self._low_pass * self._cosine)
        with torch.no_grad():
            for image in self._images:
                within_reach(image)


class PlateauPixels:
    """Adam, whose learning rate falls tenfold, down to 1e-4, whenever the loss has not fallen for 100 steps.

    images  leaves, one (N, ...) per input, changed in place
    """

    def __init__(self, images: Sequence[torch.Tensor], *, learning_rate: float) -> None:
        self._images = [value.requires_grad_() for value in images]
        self._optimizer = torch.optim.Adam(self._images, lr=learning_rate)
        self._schedule = plateau(self._optimizer)

    def render(self) -> list[torch.Tensor]:
        return self._images

    def prepare(self, _step: int) -> None:
        self._optimizer.zero_grad(set_to_none=True)

    def advance(self, total: float) -> None:
        self._optimizer.step()
        self._schedule.step(total)


def within_reach(normalised: torch.Tensor) -> torch.Tensor:
    """`normalised`, clamped in place to +-PIXEL_REACH where it is images (N, C, H, W)."""
    return normalised.clamp_(-PIXEL_REACH, PIXEL_REACH) if is_image(normalised) else normalised


def is_image(value: torch.Tensor | np.ndarray) -> bool:
    """Whether it has the shape of images, (N, C, H, W) of few channels."""
    return value.ndim == 4 and value.shape[1] <= _IMAGE_CHANNELS


def plateau(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.ReduceLROnPlateau:
    """The schedule of ZeroQ's pixels and of GENIE's latents."""
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, min_lr=_LEAST_RATE, patience=_PLATEAU_STEPS)


def _smooth(images: Sequence[torch.Tensor], strength: float) -> None:
    """Mix every image with its 3x3 binomial average, in place.   0 <= strength <= 1"""
    with torch.no_grad():
        for image in images:
            if image.ndim == 4:
                channels, row = image.shape[1], image.new_tensor([0.25, 0.5, 0.25])
                kernel = torch.outer(row, row).expand(channels, 1, 3, 3)
                image.lerp_(F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels), strength)
