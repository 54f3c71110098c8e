"""Load a network by the name that scripts/fetch_models lists it under."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from scripts.models.fetch import FetchError
from scripts.models.network import Network

NETWORKS = {
    "mobilenetv2": "mobilenetv2",
    "efficientnet-lite0": "efficientnet_lite0",
    "resnet50": "resnet50",
    "squeezenet1.1": "squeezenet",
    "resnet18-cifar": "resnet18_cifar",
    "cnn-cifar": "cnn_cifar",
    "resnet20-cifar": "resnet20_cifar",
    "vgg-cifar": "vgg_cifar",
    "pplcnet-orientation": "pplcnet_orientation",
    "resnet18-random": "resnet18_random",
}


def load(name: str, cache: Path | None = None) -> Network:
    """(model, example_inputs, preprocessing); the model of pplcnet-orientation is an .onnx path. FetchError: unknown, not cached."""
    if name not in NETWORKS:
        raise FetchError(f"no network {name!r}; choose from {', '.join(NETWORKS)}")
    return import_module(f"scripts.models.{NETWORKS[name]}").load(cache)
