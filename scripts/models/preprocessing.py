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

    def normalized(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, 3, H, W) in RGB, neither resized nor cropped -> float32 (N, 3, H, W)."""
        if self.channels == "BGR":
            pixels = pixels[:, ::-1]
        mean, deviation = (np.float32(value).reshape(3, 1, 1) for value in (self.mean, self.deviation))
        return np.ascontiguousarray((pixels.astype(np.float32) - mean) / deviation)

    def _one(self, image: Image.Image) -> np.ndarray:
        image = image.convert("RGB")
        if self.short_side is not None:
            ratio = self.short_side / min(image.size)
            size = (round(image.width * ratio), round(image.height * ratio))
            image = image.resize(size, Image.Resampling.BILINEAR)
        left, top = (image.width - self.crop) // 2, (image.height - self.crop) // 2
        return self.normalized(np.asarray(image.crop((left, top, left + self.crop, top + self.crop))).transpose(2, 0, 1)[None])[0]


TORCHVISION = Preprocessing(
    short_side=256, crop=224, mean=(0.485 * 255, 0.456 * 255, 0.406 * 255), deviation=(0.229 * 255, 0.224 * 255, 0.225 * 255)
)
CAFFE = Preprocessing(short_side=256, crop=224, channels="BGR", mean=(103.939, 116.779, 123.68))
CIFAR10 = Preprocessing(crop=32, mean=(0.4914 * 255, 0.4822 * 255, 0.4465 * 255), deviation=(0.247 * 255, 0.2435 * 255, 0.2616 * 255))
