"""Noise with the spectrum of photographs: what a network takes for an image sooner than white noise, at no cost.

    amplitude ~ 1 / frequency^1.2, nearly equal channels, standard deviation 1

White and smooth noise have too much detail; amplitudes of natural images fall about as 1 / frequency (Field, JOSA A 1987).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tvm_rsq.model import InputSpec

_SPECTRUM, _COLOUR = 1.2, 0.2  # the exponent above, and how much the channels differ


def natural_noise(specs: Sequence[InputSpec], count: int, generator: torch.Generator) -> list[torch.Tensor]:
    """One float32 tensor (count, ...) per input; white noise N(0, 1) for inputs that are no images. Images are in channels-last memory."""

    def field(shape: tuple[int, ...]) -> torch.Tensor:
        rows, columns = torch.fft.fftfreq(shape[2])[:, None], torch.fft.rfftfreq(shape[3])
        frequency = torch.hypot(rows, columns).clamp_min(1 / max(shape[2:]))
        spectrum = torch.fft.rfft2(torch.randn(shape, generator=generator)) / frequency**_SPECTRUM
        values = torch.fft.irfft2(spectrum, s=shape[2:])
        return values / values.std().clamp_min(1e-6)

    found = []
    for spec in specs:
        shape = (count, *spec.shape[1:])
        if len(shape) != 4 or min(shape[2:]) < 2:
            found.append(torch.randn(shape, generator=generator))
            continue
        images = field((count, 1, *shape[2:])) + _COLOUR * field(shape)
        found.append((images / images.std()).contiguous(memory_format=torch.channels_last))
    return found
