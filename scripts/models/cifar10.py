"""The 60000 labelled images of CIFAR-10 (Krizhevsky 2009), ten classes, as the binary files of its author hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scripts.models.fetch import FetchError, default_cache

FILES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the red, green and blue planes, row by row


def load_cifar10(split: str, cache: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 images (N, 3, 32, 32) in RGB, int64 labels (N,)); N is 50000 of "train" and 10000 of "test".

    FetchError: another split, not in the cache, or files that are not whole records of ten classes.
    """
    if split not in FILES:
        raise FetchError(f"split is {split!r}, expected one of {', '.join(FILES)}")
    folder = (cache or default_cache()) / "cifar10"
    missing = [name for name in FILES[split] if not (folder / name).is_file()]
    if missing:
        raise FetchError(f"{folder} lacks {', '.join(missing)}; run: scripts/fetch_models cifar10")
    records = np.concatenate([_records(folder / name) for name in FILES[split]])
    return records[:, 1:].reshape(-1, *SHAPE), records[:, 0].astype(np.int64)


def _records(path: Path) -> np.ndarray:
    data = np.fromfile(path, np.uint8)
    if not data.size or data.size % RECORD:
        raise FetchError(f"{path} has {data.size} bytes, expected a multiple of {RECORD}; remove it and run: scripts/fetch_models cifar10")
    records = data.reshape(-1, RECORD)
    if (records[:, 0] > 9).any():
        raise FetchError(f"{path} has the label {records[:, 0].max()}, expected 0 to 9; remove it and run: scripts/fetch_models cifar10")
    return records
