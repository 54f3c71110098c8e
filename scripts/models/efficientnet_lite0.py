"""EfficientNet-Lite0 (TensorFlow's mobile EfficientNet): ReLU6, no squeeze-and-excite, "same" padding that is asymmetric
at strides of 2; BN eps 1e-3. The state dict keeps the names of the package it comes from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from scripts.models.fetch import cached_file
from scripts.models.network import Network, network
from scripts.models.preprocessing import Preprocessing

# repeats, kernel, stride of the first, expansion, output channels
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))
PREPROCESSING = Preprocessing(short_side=256, crop=224, mean=(127.0,) * 3, deviation=(128.0,) * 3)


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding for even input sizes: a stride of 2 pads one less before than behind."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        total = kernel - stride
        self.pad = nn.ZeroPad2d((total // 2, total - total // 2) * 2) if total > 0 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.pad(x))


def batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class MBConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = SameConv2d(inputs, hidden, 1)
            self._bn0 = batch_norm(hidden)
        self._depthwise_conv = SameConv2d(hidden, hidden, kernel, stride, groups=hidden)
        self._bn1 = batch_norm(hidden)
        self._project_conv = SameConv2d(hidden, outputs, 1)
        self._bn2 = batch_norm(outputs)
        self.relu6 = nn.ReLU6()
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = self.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, 32, 3, 2)
        self._bn0 = batch_norm(32)
        blocks: list[nn.Module] = []
        channels = 32
        for repeats, kernel, first_stride, expansion, outputs in STAGES:
            for i in range(repeats):
                blocks.append(MBConv(channels, outputs, kernel, first_stride if i == 0 else 1, expansion))
                channels = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = SameConv2d(channels, 1280, 1)
        self._bn1 = batch_norm(1280)
        self._fc = nn.Linear(1280, classes)
        self.relu6 = nn.ReLU6()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self._blocks(self.relu6(self._bn0(self._conv_stem(x))))
        return self._fc(self.relu6(self._bn1(self._conv_head(x))).mean((2, 3)))


def load(cache: Path | None = None) -> Network:
    """The pretrained network. FetchError: not in the cache."""
    state = torch.load(cached_file("efficientnet-lite0", ".pth", cache), weights_only=True, map_location="cpu")
    return network(EfficientNetLite0(), state, PREPROCESSING)


def model() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """For `tvm-rsq compile scripts.models.efficientnet_lite0:model`."""
    return load()[:2]
