"""A plain network of 3x3 convolutions for CIFAR-10 without any BN, 0.26 M parameters, trained here: scripts/train_cifar vgg-cifar."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from scripts.models.network import Network, network
from scripts.models.preprocessing import CIFAR10
from scripts.models.stored_weights import read_weights

STAGES = ((32, 32), (64, 64), (96, 96), (64,))  # output channels of each convolution; a max pool between two stages


class VggCifar(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for number, stage in enumerate(STAGES):
            if number:
                layers.append(nn.MaxPool2d(2))
            for outputs in stage:
                layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU()]
                channels = outputs
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x).mean((2, 3)))


def load(cache: Path | None = None) -> Network:
    """The trained network; its weights are in this checkout, and `cache` is not looked at. FetchError: they are missing."""
    return network(VggCifar(), read_weights("vgg-cifar")[0], CIFAR10)


def model() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """For `tvm-rsq compile scripts.models.vgg_cifar:model`."""
    return load()[:2]
