"""Images of leaves that hide each other: what a network takes for photographs, at no cost.

A leaf is a disc of one colour with a faint texture, thrown on those below it; radii r have the density r^-p. Photographs are like that:
objects of all sizes hide each other (Lee, Mumford and Huang, "Occlusion models for natural images", IJCV 2001; Baradad et al., "Learning to
See by Looking at Noise", NeurIPS 2021, train networks on them). What matters here is that most of an image is smooth and edges are rare and
strong, so that the values of early layers are mostly small and now and then large; on noise of the same spectrum they never are, and the
ranges that noise shows were 0.5 to 0.65 of those of photos in most of the first ten layers of MobileNetV2; on leaves, 0.8 to 1.1 in all.
Images differ in their smallest leaf and in p, as photographs differ in detail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tvm_rsq.model import InputSpec

_SMALLEST = 0.005, 0.2  # the least radius of an image's leaves, in parts of its side: log-uniform
_LARGEST = 0.5
_POWER = 2.05, 3.2
_COLOUR = 0.3  # deviation of a channel from a leaf's brightness, which deviates by 1
_TEXTURE = 0.05  # mean amplitude of a leaf's texture
_SPECTRUM = 1.2  # of the texture: amplitudes fall as frequency^-1.2 (Field, JOSA A 1987)
_BARE = 0.01  # of an image may stay bare
_MOST_LEAVES = 20_000


def dead_leaves(specs: Sequence[InputSpec], count: int, generator: np.random.Generator) -> list[np.ndarray]:
    """One float32 array (count, ...) per input, mean 0 and deviation 1; white noise N(0, 1) for inputs that are no images."""
    return [_of_input((count, *spec.shape[1:]), generator) for spec in specs]


def _of_input(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    if len(shape) != 4 or min(shape[2:]) < 2:
        return generator.standard_normal(shape).astype(np.float32)
    images = np.stack([_image(shape[1:], generator) for _ in range(shape[0])]).transpose(0, 3, 1, 2)
    return np.ascontiguousarray((images - images.mean()) / images.std(), dtype=np.float32)


def _image(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """float64 (H, W, C), leaves painted from the topmost down, so that no pixel is painted twice."""
    channels, height, width = shape
    side = min(height, width)
    least = max(1.0, side * math.exp(generator.uniform(math.log(_SMALLEST[0]), math.log(_SMALLEST[1]))))
    power, most = generator.uniform(*_POWER), max(_LARGEST * side, 2.0)
    colours, amplitudes, bare = np.zeros((height, width, channels)), np.zeros((height, width)), np.ones((height, width), bool)
    left = height * width
    for _ in range(_MOST_LEAVES):
        r = _radius(generator.random(), least, most, power)
        y, x = generator.uniform(-r, height + r), generator.uniform(-r, width + r)
        colour = generator.uniform(-math.sqrt(3), math.sqrt(3)) + _COLOUR * generator.standard_normal(channels)
        amplitude = _TEXTURE * generator.exponential()
        rows, columns = _within(y, r, height), _within(x, r, width)
        leaf = np.square(np.arange(rows.start, rows.stop) - y)[:, None] + np.square(np.arange(columns.start, columns.stop) - x) <= r * r
        leaf &= bare[rows, columns]
        colours[rows, columns][leaf], amplitudes[rows, columns][leaf] = colour, amplitude
        bare[rows, columns] &= ~leaf
        left -= int(leaf.sum())
        if left < _BARE * height * width:
            break
    else:  # thin inputs take more leaves than that: every pixel that is left is a leaf of its own
        colours[bare] = generator.uniform(-math.sqrt(3), math.sqrt(3), (left, 1)) + _COLOUR * generator.standard_normal((left, channels))
    return colours + amplitudes[..., None] * _texture(height, width, generator)[..., None]


def _radius(uniform: float, least: float, most: float, power: float) -> float:
    """Of the density r^-power between least and most, by inverting its distribution."""
    ends = least ** (1 - power), most ** (1 - power)
    return float((ends[0] + uniform * (ends[1] - ends[0])) ** (1 / (1 - power)))


def _within(center: float, radius: float, size: int) -> slice:
    start = min(max(math.floor(center - radius), 0), size)
    return slice(start, max(start, min(math.ceil(center + radius) + 1, size)))


def _texture(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """float64 (H, W) of deviation 1"""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    spectrum = np.fft.rfft2(generator.standard_normal((height, width))) / np.maximum(frequency, 1 / max(height, width)) ** _SPECTRUM
    values = np.fft.irfft2(spectrum, s=(height, width))
    return values / max(float(values.std()), 1e-6)
