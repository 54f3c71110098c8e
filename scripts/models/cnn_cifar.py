"""A small Keras CNN for CIFAR-10 with BN *behind* each ReLU, which cannot be folded into the convolution before it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from scripts.models.fetch import FetchError, cached_file
from scripts.models.network import Network, network
from scripts.models.preprocessing import Preprocessing

CHANNELS = (64, 64, 128, 128, 64, 64)
BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
PREPROCESSING = Preprocessing(crop=32)


class CnnCifar(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for i, outputs in enumerate(CHANNELS):
            layers += [nn.Conv2d(inputs, outputs, 3), nn.ReLU(), nn.BatchNorm2d(outputs, eps=1e-3)]
            if i in (1, 3):
                layers.append(nn.MaxPool2d(2))
            inputs = outputs
        self.features = nn.Sequential(*layers)  # 32x32 -> 1x1, and so Keras' flatten order does not matter
        self.dense = nn.ModuleList([nn.Linear(64, 1024), nn.Linear(1024, 512), nn.Linear(512, classes)])
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.flatten(self.features(x), 1)
        for dense in self.dense:
            x = self.relu(dense(x))  # the last one too: this network was trained with a ReLU on its logits
        return x


def load(cache: Path | None = None) -> Network:
    """The pretrained network. FetchError: not in the cache, or h5py is not installed."""
    try:
        import h5py
    except ImportError as error:
        raise FetchError("cnn-cifar is a Keras .h5 file and h5py is not installed; run: pip install h5py") from error
    module = CnnCifar()
    convs = [name for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)]
    norms = [name for name, layer in module.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    state: dict[str, torch.Tensor] = {}
    with h5py.File(cached_file("cnn-cifar", ".h5", cache)) as file:

        def read(layer: str, weight: str) -> torch.Tensor:
            return torch.from_numpy(file["model_weights"][layer][layer][f"{weight}:0"][()])

        for i, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
            suffix = f"_{i}" if i else ""
            state[f"{conv}.weight"] = read(f"conv2d{suffix}", "kernel").permute(3, 2, 0, 1).contiguous()
            state[f"{conv}.bias"] = read(f"conv2d{suffix}", "bias")
            for theirs, ours in BATCH_NORM.items():
                state[f"{norm}.{ours}"] = read(f"batch_normalization{suffix}", theirs)
            state[f"{norm}.num_batches_tracked"] = torch.tensor(0)
        for i in range(3):
            suffix = f"_{i}" if i else ""
            state[f"dense.{i}.weight"] = read(f"dense{suffix}", "kernel").T.contiguous()
            state[f"dense.{i}.bias"] = read(f"dense{suffix}", "bias")
    return network(module, state, PREPROCESSING)


def model() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """For `tvm-rsq compile scripts.models.cnn_cifar:model`."""
    return load()[:2]
