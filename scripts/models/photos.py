"""Twenty labelled ImageNet photos, for a first look at a network; far too few for an accuracy figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from scripts.models.fetch import FetchError, default_cache


def load_photos(cache: Path | None = None) -> tuple[list[Image.Image], np.ndarray]:
    """(images in RGB, int64 labels (20,), 0-based ImageNet classes); hand the images to a network's `preprocessing`.

    FetchError: not in the cache.
    """
    folder = (cache or default_cache()) / "photos"
    paths = sorted(folder.glob("imagenet_*.jpg"))
    if not paths:
        raise FetchError(f"no photos in {folder}; run: scripts/fetch_models photos")
    labels = np.array([int(path.stem.rsplit("_", 1)[1]) for path in paths])  # imagenet_NN_LABEL.jpg
    return [Image.open(path).convert("RGB") for path in paths], labels
