"""ResNet-18 for 32x32 images (He et al. 2015; the stem is one 3x3 convolution), CIFAR-10."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from scripts.models.fetch import cached_file
from scripts.models.network import Network, network
from scripts.models.preprocessing import Preprocessing

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))  # channels, stride of the first block; two blocks each
PREPROCESSING = Preprocessing(crop=32, deviation=(255.0,) * 3)


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        projects = stride != 1 or inputs != outputs
        self.shortcut = nn.Sequential(*([nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)] if projects else []))
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.shortcut(x))


def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1))


class ResNet18Cifar(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        channels = 64
        for number, (outputs, stride) in enumerate(STAGES, start=1):
            self.add_module(f"layer{number}", stage(channels, outputs, stride))
            channels = outputs
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(torch.flatten(nn.functional.avg_pool2d(x, 4), 1))


def load(cache: Path | None = None) -> Network:
    """The pretrained network. FetchError: not in the cache."""
    state = torch.load(cached_file("resnet18-cifar", ".pt", cache), weights_only=True, map_location="cpu")
    return network(ResNet18Cifar(), state, PREPROCESSING)


def model() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """For `tvm-rsq compile scripts.models.resnet18_cifar:model`."""
    return load()[:2]
