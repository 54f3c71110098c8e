"""How a network wants its images: short side, centre crop, channel order, mean and deviation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """value = (pixel - mean) / deviation per channel, pixels 0..255, bilinear resize, centre crop.

    short_side       images are scaled so that their shorter side is this many pixels; None leaves their size
    crop             side of the square that is cut from the middle, in pixels
    mean, deviation  in pixel units, in the order of `channels`
    """

    crop: int
    short_side: int | None = None
    channels: str = "RGB"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def uncropped(self) -> Preprocessing:
        """For photos that were cut to a square already: the whole image, scaled to the network's input."""
        return replace(self, short_side=self.crop)

    def __call__(self, images: Iterable[Image.Image]) -> np.ndarray:
        """float32 (N, 3, crop, crop)."""
        return np.stack([self._one(image) for image in images])

    def _one(self, image: Image.Image) -> np.ndarray:
        image = image.convert("RGB")
        if self.short_side is not None:
            ratio = self.short_side / min(image.size)
            size = (round(image.width * ratio), round(image.height * ratio))
            image = image.resize(size, Image.Resampling.BILINEAR)
        left, top = (image.width - self.crop) // 2, (image.height - self.crop) // 2
        pixels = np.asarray(image.crop((left, top, left + self.crop, top + self.crop)), np.float32)
        if self.channels == "BGR":
            pixels = pixels[..., ::-1]
        values = (pixels - np.float32(self.mean)) / np.float32(self.deviation)
        return np.ascontiguousarray(values.transpose(2, 0, 1))


TORCHVISION = Preprocessing(
    short_side=256, crop=224, mean=(0.485 * 255, 0.456 * 255, 0.406 * 255), deviation=(0.229 * 255, 0.224 * 255, 0.225 * 255)
)
CAFFE = Preprocessing(short_side=256, crop=224, channels="BGR", mean=(103.939, 116.779, 123.68))
