"""What the claims need to know about the networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """batch_norm: it has any; residual, depthwise: layers; cifar: its images; labels: there are some"""

    batch_norm: bool = True
    residual: bool = False
    depthwise: bool = False
    cifar: bool = False
    labels: bool = True


TRAITS: Mapping[str, Traits] = {
    "mobilenetv2": Traits(depthwise=True, residual=True),
    "efficientnet-lite0": Traits(depthwise=True, residual=True),
    "resnet50": Traits(residual=True),
    "squeezenet1.1": Traits(batch_norm=False),
    "resnet18-cifar": Traits(residual=True, cifar=True),
    "cnn-cifar": Traits(cifar=True),
    "pplcnet-orientation": Traits(depthwise=True, labels=False),
    "resnet20-cifar": Traits(residual=True, cifar=True),
    "vgg-cifar": Traits(batch_norm=False, cifar=True),
}
