"""Labelled ImageNet photos that packages carry: for a first look at a network; far too few for an accuracy figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from scripts.models.fetch import FetchError, default_cache


def load_photos(cache: Path | None = None) -> tuple[list[Image.Image], np.ndarray]:
    """Twenty: (images in RGB, int64 labels (20,), 0-based ImageNet classes); hand the images to a network's `preprocessing`.

    FetchError: not in the cache.
    """
    return _labelled("photos", "imagenet_*.jpg", cache)  # imagenet_NN_LABEL.jpg


def load_photos50(cache: Path | None = None) -> tuple[list[Image.Image], np.ndarray]:
    """Fifty others, 400x400 pixels: (images in RGB, int64 labels (50,), 0-based ImageNet classes). FetchError: not in the cache."""
    return _labelled("photos50", "*_*.png", cache)  # HASH_LABEL.png


def _labelled(name: str, pattern: str, cache: Path | None) -> tuple[list[Image.Image], np.ndarray]:
    folder = (cache or default_cache()) / name
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise FetchError(f"no photos in {folder}; run: scripts/fetch_models {name}")
    labels = np.array([int(path.stem.rsplit("_", 1)[1]) for path in paths])
    return [Image.open(path).convert("RGB") for path in paths], labels
