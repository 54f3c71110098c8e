"""A small network that draws the images, trained with its latents for one batch: what GENIE optimises in place of pixels.

    z (N, 256) -> linear -> BN -> x2 -> conv 3x3 -> BN -> leaky ReLU -> x2 -> conv 3x3 -> tanh -> BN -> (N, C, H, W)

Neighbouring pixels share weights, and images of one batch share all of them, which keeps the noise of directly optimised pixels away.
The last BN has no scale and shift of its own: channels have mean 0 and standard deviation 1 over the batch, whatever the weights.

Source: Jeon et al., "Genie: Show Me the Data for Quantization", CVPR 2023, with its published distill.py. That is for images of 3 x 224 x
224 and has 128 and 64 channels, so 103 million weights in its linear layer, which a GPU trains for thousands of steps; here the channels
are as many as keep the linear layer small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from tvm_rsq.errors import CalibrationError
from tvm_rsq.model import InputSpec
from tvm_rsq.optimised_pixels import plateau
from tvm_rsq.synthesis_budget import NetworkCost
from tvm_rsq.torch_device import CPU, memory_format

_LATENTS = 256
_LATENT_RATE, _WEIGHT_RATE = 0.1, 0.01
_DECAY, _DECAY_STEPS = 0.95, 100  # of the weights' rate
_MOST_CHANNELS, _FEWEST_CHANNELS, _LINEAR_WEIGHTS = 128, 16, 8_000_000
_SLOPE = 0.2


class ImageGenerator:
    """One image generator.   shape (C, H, W) of its images; generator: what its first weights are drawn with; device: where they are

    weights  leaves by name
    """

    def __init__(self, shape: tuple[int, int, int], generator: torch.Generator, device: torch.device = CPU) -> None:
        self._sizes = _sizes(shape)
        grid, first, second = self._sizes
        wide, narrow = _channels(shape)

        def uniform(*extents: int, fan_in: int) -> torch.Tensor:
            bound = 1 / math.sqrt(fan_in)
            return ((torch.rand(extents, generator=generator) * 2 - 1) * bound).to(device).requires_grad_()

        features = wide * math.prod(grid)
        self.weights: dict[str, torch.Tensor] = {
            "linear.weight": uniform(features, _LATENTS, fan_in=_LATENTS),
            "linear.bias": uniform(features, fan_in=_LATENTS),
            "first.weight": uniform(narrow, wide, 3, 3, fan_in=wide * 9),
            "second.weight": uniform(shape[0], narrow, 3, 3, fan_in=narrow * 9),
            "second.bias": uniform(shape[0], fan_in=narrow * 9),
        }
        for name, channels in (("bn1", wide), ("bn2", narrow)):
            self.weights[f"{name}.gamma"] = torch.ones(channels, device=device).requires_grad_()
            self.weights[f"{name}.beta"] = torch.zeros(channels, device=device).requires_grad_()

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """(N, 256) -> (N, C, H, W), differentiable in latents and weights."""
        w = self.weights
        grid, first, second = self._sizes
        x = F.linear(latents, w["linear.weight"], w["linear.bias"]).reshape(len(latents), -1, *grid)
        x = x.contiguous(memory_format=memory_format(x.device))
        x = F.batch_norm(x, None, None, w["bn1.gamma"], w["bn1.beta"], training=True)
        x = F.conv2d(F.interpolate(x, first), w["first.weight"], padding=1)
        x = F.leaky_relu(F.batch_norm(x, None, None, w["bn2.gamma"], w["bn2.beta"], training=True), _SLOPE)
        x = F.conv2d(F.interpolate(x, second), w["second.weight"], w["second.bias"], padding=1)
        return F.batch_norm(torch.tanh(x), None, None, training=True)


class GeneratedImages:
    """A batch from fresh generators, one per input, with their latents (N, 256).

    Adam takes latents at 0.1, a tenth of it after every 100 steps without a lower loss, and weights at 0.01, 5 % less every 100 steps. (The
    published code names these two rates the other way round, and hands them over crosswise.)
    """

    def __init__(self, specs: Sequence[InputSpec], count: int, generator: torch.Generator, device: torch.device = CPU) -> None:
        self.latents = [torch.randn((count, _LATENTS), generator=generator).to(device).requires_grad_() for _ in specs]
        self.generators = [ImageGenerator(image_shape(spec), generator, device) for spec in specs]
        weights = [value for each in self.generators for value in each.weights.values()]
        self._of_latents = torch.optim.Adam(self.latents, lr=_LATENT_RATE)
        self._of_weights = torch.optim.Adam(weights, lr=_WEIGHT_RATE)
        self._schedule = plateau(self._of_latents)

    def prepare(self, step: int) -> None:
        self._of_weights.param_groups[0]["lr"] = _WEIGHT_RATE * _DECAY ** (step // _DECAY_STEPS)
        self._of_latents.zero_grad(set_to_none=True)
        self._of_weights.zero_grad(set_to_none=True)

    def render(self) -> list[torch.Tensor]:
        return [draw(latents) for draw, latents in zip(self.generators, self.latents, strict=True)]

    def advance(self, total: float) -> None:
        self._of_latents.step()
        self._of_weights.step()
        self._schedule.step(total)


def image_shape(spec: InputSpec) -> tuple[int, int, int]:
    """(C, H, W) of an input.   CalibrationError: it takes no images."""
    if len(spec.shape) != 4 or math.prod(spec.shape[2:]) == 1:
        raise CalibrationError(
            f"input {spec.name} has shape {list(spec.shape)}, expected images (N, C, H, W) for source generator; use retro-synthesis"
        )
    return spec.shape[1], spec.shape[2], spec.shape[3]


def generator_cost(specs: Sequence[InputSpec]) -> NetworkCost:
    """Of one image (all inputs) through its generator. Half more multiply-accumulates than run forward: weights have gradients here."""
    macs = size = 0
    for spec in specs:
        shape = image_shape(spec)
        (grid, first, second), (wide, narrow) = _sizes(shape), _channels(shape)
        linear, inner, outer = wide * math.prod(grid), math.prod(first), math.prod(second)
        macs += linear * _LATENTS + inner * narrow * wide * 9 + outer * shape[0] * narrow * 9
        size += 2 * linear + inner * (wide + 3 * narrow) + outer * (narrow + 3 * shape[0])
    return NetworkCost(macs=macs * 3 // 2, value_bytes=size * 4)


def _sizes(shape: tuple[int, int, int]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """(height, width) of the linear layer's output, after one doubling, and of the image; no image has fewer than 2 x 2 at first."""
    height, width = shape[1:]
    grid, first = ((max(2, -(-height // part)), max(2, -(-width // part))) for part in (4, 2))
    return grid, first, (height, width)


def _channels(shape: tuple[int, int, int]) -> tuple[int, int]:
    """Of the linear layer's output, and after the first convolution."""
    fitting = _LINEAR_WEIGHTS // (_LATENTS * math.prod(_sizes(shape)[0]))
    wide = min(_MOST_CHANNELS, max(_FEWEST_CHANNELS, fitting))
    return wide, max(_FEWEST_CHANNELS, wide // 2)
