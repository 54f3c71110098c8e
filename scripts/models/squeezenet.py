"""SqueezeNet 1.1 (Iandola et al. 2016), ImageNet: no BN anywhere, "same" first convolution, ceil-mode max pools."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch
from torch import nn

from scripts.models.fetch import cached_file
from scripts.models.network import Network, network
from scripts.models.preprocessing import CAFFE

# inputs, squeeze and expand channels of the fire modules, by the number that their names carry
FIRES = {2: (64, 16, 64), 3: (128, 16, 64), 4: (128, 32, 128), 5: (256, 32, 128), 6: (256, 48, 192), 7: (384, 48, 192),
         8: (384, 64, 256), 9: (512, 64, 256)}  # fmt: skip


class Fire(nn.Module):
    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.squeeze1x1(x))
        return torch.cat([self.relu(self.expand1x1(x)), self.relu(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))  # TensorFlow's "same" at 224: nothing before, one behind
        self.conv1 = nn.Conv2d(3, 64, 3, 2)
        for number, channels in FIRES.items():
            self.add_module(f"fire{number}", Fire(*channels))
        self.conv10 = nn.Conv2d(512, classes, 1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu(self.conv1(self.pad(x))))
        x = self.pool(self.fire3(self.fire2(x)))
        x = self.pool(self.fire5(self.fire4(x)))
        x = self.fire9(self.fire8(self.fire7(self.fire6(x))))
        return self.relu(self.conv10(x)).mean((2, 3))


class _ArraysOnly(pickle.Unpickler):
    """Unpickles numpy arrays in plain containers and refuses everything else: a pickle can run any code."""

    ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # its old address
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"the file wants {module}.{name}, expected numpy arrays only; not loaded")
        return self.ALLOWED[module, name]


def load(cache: Path | None = None) -> Network:
    """The pretrained network. FetchError: not in the cache."""
    with cached_file("squeezenet1.1", ".pkl", cache).open("rb") as file:
        weights = _ArraysOnly(file).load()
    state = {}
    for layer, (kernel, bias) in weights.items():
        name = layer.replace("/", ".")
        state[f"{name}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        state[f"{name}.bias"] = torch.from_numpy(bias.copy())
    return network(SqueezeNet(), state, CAFFE)


def model() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """For `tvm-rsq compile scripts.models.squeezenet:model`."""
    return load()[:2]
