"""ResNet-20 (He et al. 2015) for CIFAR-10, 0.27 M parameters, trained here: scripts/train_cifar resnet20-cifar.

Where channels double, the shortcut is a 1x1 convolution with BN.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from scripts.models.network import Network, network
from scripts.models.preprocessing import CIFAR10
from scripts.models.resnet18_cifar import BasicBlock
from scripts.models.stored_weights import read_weights

STAGES = ((16, 1), (32, 2), (64, 2))  # channels, stride of the first block; three blocks each


class ResNet20Cifar(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        blocks: list[nn.Module] = []
        channels = 16
        for outputs, first_stride in STAGES:
            for i in range(3):
                blocks.append(BasicBlock(channels, outputs, first_stride if i == 0 else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.blocks(self.relu(self.bn1(self.conv1(x)))).mean((2, 3)))


def load(cache: Path | None = None) -> Network:
    """The trained network; its weights are in this checkout, and `cache` is not looked at. FetchError: they are missing."""
    return network(ResNet20Cifar(), read_weights("resnet20-cifar")[0], CIFAR10)


def model() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """For `tvm-rsq compile scripts.models.resnet20_cifar:model`."""
    return load()[:2]
