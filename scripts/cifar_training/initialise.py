"""Weights before training, of networks with and without BN."""

from __future__ import annotations

import torch
from torch import nn


def initialise(module: nn.Module, seed: int) -> None:
    """Kernels N(0, 2 / fan_in), which keeps the size of activations through ReLUs without any BN; the last layer and biases 0."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, 0, (2 / fan_in) ** 0.5, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
