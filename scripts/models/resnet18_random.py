"""ResNet-18 for 224x224 images with random weights: for latency and for tests, where no packaged weights exist."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from scripts.models.network import Network, network
from scripts.models.preprocessing import TORCHVISION
from scripts.models.resnet18_cifar import STAGES, stage


class ResNet18(nn.Module):
    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for number, (outputs, stride) in enumerate(STAGES, start=1):
            self.add_module(f"layer{number}", stage(channels, outputs, stride))
            channels = outputs
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def load(cache: Path | None = None, seed: int = 0) -> Network:
    """Weights N(0, 2/fan_in) from `seed`; BN statistics measured on noise, so that they fit the activations. No cache needed."""
    generator = torch.Generator().manual_seed(seed)
    module = ResNet18()
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            layer.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            if layer.bias is not None:
                layer.bias.data.zero_()
        elif isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # plain average over the batches seen: here one
    with torch.no_grad():
        module.train()(torch.randn(8, 3, 96, 96, generator=generator))
    return network(module, module.state_dict(), TORCHVISION)


def model() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """For `tvm-rsq compile scripts.models.resnet18_random:model`."""
    return load()[:2]
