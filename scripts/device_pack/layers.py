"""Weights of layers that are expanded: shapes of networks that have them."""

from __future__ import annotations

LAYERS: dict[str, tuple[int, ...]] = {
    "vgg16 dense 1": (4096, 25088),
    "resnet50 3x3 512": (512, 3, 3, 512),
    "resnet50 1x1 64": (64, 1, 1, 256),
}
