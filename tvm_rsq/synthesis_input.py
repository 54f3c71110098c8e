"""What retro-synthesis starts from: smooth random images, and the scale on which the network takes its inputs.

    inputs = offset + gain * normalised          normalised ~ mean 0, standard deviation 1

A network does not say whether it was trained on values around 0, in [0, 1], in [0, 255] or on 255-value images with the mean taken off.

With batch normalisation the running statistics say it: the gain and offset that match them best are taken, over noise with the spectrum
of photographs (white or smooth noise has too much detail, and so would be found two to four times too weak). Images come on few scales, and
the nearest larger one is taken, up to 4 times: a CNN that takes 0 to 255 was found to take a half or a quarter of that, and was 43 and 17 %
right, 53 % on the right scale (what it lacks of FP32's 80 % has another cause).
Without, the biases may: most exporters fold batch normalisations into the layers, and a bias that came from one has the size of what it is
added to. Where the two agree within a factor of e for some gain, on average over the layers, the gain of the best agreement is taken. (On
the folded forms of MobileNetV2, EfficientNet-Lite0, ResNet-50 and a CIFAR ResNet-18 that is 1, 1, 64 and 0.25, the power of two next to the
true one; on SqueezeNet, which never had any, they disagree by a factor of 18.) Not a gain below 1, though: biases that were trained from 0
are small, and fit small images best. Those of a CIFAR-10 VGG of unit variance fit 1/4 as well as that ResNet-18's do.
Else the outputs have to: towards gain 0 the network sees a constant and cannot tell random images apart, towards infinity it is
certain about each of them. The gain is the smallest at which the information between image and class, H(mean p) - mean H(p), reaches
half of its largest value over the scan: the scale on which the network starts to see. But 1, the usual one, if a fiftieth of it is there
at 1: that VGG has 6 % there, SqueezeNet, which takes 255-value images, 0.7 %. And for images no more than 64, the deviation of photographs
in 0 to 255: SqueezeNet tells noise apart less well than photographs, and the rule alone said 128 to 256.
Ranges that are too small clip real images (the VGG was 40 % right at 8 bits instead of 87 with ranges of 1/8 of its scale); ranges that are
four times too large cost two bits (SqueezeNet's answers were FP32's on 70 % of photos instead of 92).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from tvm_rsq.divergence import class_scores
from tvm_rsq.model import InputSpec
from tvm_rsq.natural_noise import natural_noise
from tvm_rsq.optimised_pixels import is_image
from tvm_rsq.synthesis_loss import StatisticsLoss

_GAINS = tuple(2.0**e for e in range(-3, 9))
_OFFSETS = (0.0, 2.0)  # in units of the gain: images around 0, and images of positive values, whose mean is about twice their deviation
_SCAN_PIXELS = 100_000  # per channel: two images of 224 x 224; small images need more to be as sure of their statistics
_PREFER_UNIT = 1.25  # N(0, 1) is by far the most common convention: it is kept unless another is clearly better
_ENOUGH_INFORMATION = 0.05  # nats
_BIASES_AGREE = 1.0  # mean |log| over layers
_OF_BYTES = 64.0  # the deviation of photographs in 0 to 255
# Deviations of images that networks are given: in [-1, 1], N(0, 1) or bytes without their mean; positive ones in [0, 1] or 0 to 255.
_CONVENTIONS = {False: (0.5, 1.0, _OF_BYTES), True: (0.25, _OF_BYTES)}
_SEES = 0.02  # of the largest information


@dataclass(frozen=True, slots=True)
class InputScale:
    """inputs = offset + gain * normalised, and how that was found (one phrase)."""

    gain: float = 1.0
    offset: float = 0.0
    reason: str = "as given"

    def apply(self, normalised: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Inputs as the network takes them."""
        return [self.offset + self.gain * value for value in normalised]


def starting_images(specs: Sequence[InputSpec], count: int, generator: torch.Generator) -> list[torch.Tensor]:
    """One float32 tensor (count, ...) per input: images bicubic from 1/8 of their size plus white noise (0.9, 0.3).

    Inputs that are no images are white noise. Images are (N, C, H, W), in channels-last memory.
    """
    found = []
    for spec in specs:
        shape = (count, *spec.shape[1:])
        white = torch.randn(shape, generator=generator)
        if len(shape) == 4:
            small = torch.randn(*shape[:2], *(max(1, -(-extent // 8)) for extent in shape[2:]), generator=generator)
            white = 0.9 * F.interpolate(small, shape[2:], mode="bicubic", align_corners=False) + 0.3 * white
            white = white.contiguous(memory_format=torch.channels_last)
        found.append(white)
    return found


def find_input_scale(loss: StatisticsLoss, has_batch_norm: bool, specs: Sequence[InputSpec], generator: torch.Generator) -> InputScale:
    """The scale of the network's inputs, as the module's docstring says. Costs about 100 passes of one image (224 x 224)."""
    pixels = max((math.prod(spec.shape[2:]) for spec in specs if len(spec.shape) == 4), default=1)
    with torch.no_grad():
        if has_batch_norm:
            return _by_statistics(loss, natural_noise(specs, min(64, max(2, _SCAN_PIXELS // pixels)), generator))
        return _by_biases(loss, starting_images(specs, 4, generator)) or _by_information(loss, natural_noise(specs, 8, generator))


def _by_statistics(loss: StatisticsLoss, normalised: list[torch.Tensor]) -> InputScale:
    def error(gain: float, offset: float) -> float:
        return loss.scale_error(InputScale(gain, offset).apply(normalised))

    # Every other gain first, then the neighbours of the best one.
    tried = {(gain, ratio): error(gain, ratio * gain) for gain in _GAINS[1::2] for ratio in _OFFSETS}
    gain, ratio = min(tried, key=tried.__getitem__)
    tried |= {(g, ratio): error(g, ratio * g) for g in (gain / 2, gain * 2)}
    gain, ratio = min(tried, key=tried.__getitem__)
    if tried[1.0, 0.0] <= _PREFER_UNIT * tried[gain, ratio]:
        gain, ratio = 1.0, 0.0
    if all(is_image(value) for value in normalised):
        gain = _as_usual(gain, bool(ratio))
    return InputScale(gain, ratio * gain, "matches the batch-norm statistics best")


def _as_usual(gain: float, positive: bool) -> float:
    """The gain of the convention for images that is nearest, up to 4 times larger; the gain itself where none is."""
    near = [usual for usual in _CONVENTIONS[positive] if gain <= usual <= gain * 4]
    return min(near, key=lambda usual: abs(math.log(usual / gain)), default=gain)


def _by_biases(loss: StatisticsLoss, normalised: list[torch.Tensor]) -> InputScale | None:
    errors = {gain: loss.bias_error(InputScale(gain).apply(normalised)) for gain in _GAINS}
    gain = min(errors, key=errors.__getitem__)
    if errors[1.0] <= _PREFER_UNIT * errors[gain]:
        gain = 1.0
    if not errors[gain] < _BIASES_AGREE or gain < 1.0:
        return None
    return InputScale(gain, 0.0, "the biases fit it, as those of folded batch norms do")


def _by_information(loss: StatisticsLoss, normalised: list[torch.Tensor]) -> InputScale:
    information = {}
    images = all(is_image(value) for value in normalised)
    for gain in _GAINS:
        scores = class_scores(loss.run(InputScale(gain).apply(normalised))[1])
        if scores is None:
            return InputScale(reason="assumed: the network has neither batch norm nor class scores to tell it")
        information[gain] = _information(scores)
    most = max(information.values())
    if not most > _ENOUGH_INFORMATION:
        return InputScale(reason="assumed: the outputs hardly depend on the input")
    gain = next(gain for gain, found in information.items() if found >= most / 2)
    gain = min(gain, _OF_BYTES) if images else gain
    if information[1.0] >= _SEES * most:
        return InputScale(reason="assumed, as it is usual and the network tells random images apart on it; it has no batch norm to tell")
    return InputScale(gain, 0.0, "the smallest at which the network tells random images apart; it has no batch norm to tell")


def _information(scores: torch.Tensor) -> float:
    """H(mean p) - mean H(p) in nats, over the samples of scores (N, C)."""
    log_p = scores.to(torch.float64).log_softmax(1)
    mean = log_p.exp().mean(0)
    each = -(log_p.exp() * log_p).sum(1).mean()
    return float(-(mean * mean.clamp_min(1e-300).log()).sum() - each)
