"""A small torch network whose batch norms know the noise that it is run on, as after training on it."""

from __future__ import annotations

import torch
from torch import nn


def trained(module: nn.Module, *shape: int, seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    """(the module with random batch norms, whose running statistics are those of the noise, the noise)"""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.momentum = 1.0
        if getattr(part, "affine", False):
            nn.init.normal_(part.weight, generator=generator)
            nn.init.normal_(part.bias, generator=generator)
        elif isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.normal_(part.weight, std=part.weight[0].numel() ** -0.5, generator=generator)
    with torch.no_grad():
        module.train()(x)
    return module.eval(), x
