"""ResNet-50 v1 as Keras has it: convolutions with bias, BN eps 1e-3, stride in the first 1x1 of a block; ImageNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from scripts.models.fetch import cached_file
from scripts.models.network import Network, network
from scripts.models.preprocessing import CAFFE
from scripts.models.tfjs import read_weights

# blocks, inner channels, stride of the first; Keras counts these stages from 2
STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, inner: int, stride: int, projects: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 1, stride)
        self.bn1 = batch_norm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1)
        self.bn2 = batch_norm(inner)
        self.conv3 = nn.Conv2d(inner, 4 * inner, 1)
        self.bn3 = batch_norm(4 * inner)
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, 4 * inner, 1, stride), batch_norm(4 * inner)) if projects else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


class ResNet50(nn.Module):
    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.bn1 = batch_norm(64)
        self.relu = nn.ReLU()
        # Keras pads with zeros here; behind a ReLU that is what a max pool's own padding does
        self.pool = nn.MaxPool2d(3, 2, 1)
        stages: list[nn.Module] = []
        channels = 64
        for blocks, inner, first_stride in STAGES:
            stage = []
            for i in range(blocks):
                stage.append(Bottleneck(channels, inner, first_stride if i == 0 else 1, projects=i == 0))
                channels = 4 * inner
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(self.stages(x).mean((2, 3)))  # logits: Keras' own last layer has a softmax


def state_from_keras(weights: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Keras names and layouts -> the state dict of ResNet50. KeyError: a weight is missing."""
    state: dict[str, torch.Tensor] = {}

    def copy(layer: str, norm: str, keras_layer: str, keras_norm: str) -> None:
        state[f"{layer}.weight"] = torch.from_numpy(weights[f"{keras_layer}/kernel"].transpose(3, 2, 0, 1).copy())
        state[f"{layer}.bias"] = torch.from_numpy(weights[f"{keras_layer}/bias"].copy())
        for theirs, ours in BATCH_NORM.items():
            state[f"{norm}.{ours}"] = torch.from_numpy(weights[f"{keras_norm}/{theirs}"].copy())
        state[f"{norm}.num_batches_tracked"] = torch.tensor(0)

    copy("conv1", "bn1", "conv1", "bn_conv1")
    for stage, (blocks, _, _) in enumerate(STAGES):
        for block in range(blocks):
            ours, theirs = f"stages.{stage}.{block}", f"{stage + 2}{'abcdef'[block]}_branch"
            for i, branch in enumerate(("2a", "2b", "2c"), start=1):
                copy(f"{ours}.conv{i}", f"{ours}.bn{i}", f"res{theirs}{branch}", f"bn{theirs}{branch}")
            if block == 0:
                copy(f"{ours}.shortcut.0", f"{ours}.shortcut.1", f"res{theirs}1", f"bn{theirs}1")
    state["fc.weight"] = torch.from_numpy(weights["fc1000/kernel"].T.copy())
    state["fc.bias"] = torch.from_numpy(weights["fc1000/bias"].copy())
    return state


def load(cache: Path | None = None) -> Network:
    """The pretrained network. FetchError: not in the cache."""
    return network(ResNet50(), state_from_keras(read_weights(cached_file("resnet50", "model.json", cache))), CAFFE)


def model() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """For `tvm-rsq compile scripts.models.resnet50:model`."""
    return load()[:2]
