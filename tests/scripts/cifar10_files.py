"""Files as those of CIFAR-10, with few images of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scripts.models.cifar10 import FILES, RECORD


def write_cifar10(cache: Path, records: np.ndarray, split: str) -> None:
    """`records` uint8 (N, 3073), shared out among the files of `split`."""
    (cache / "cifar10").mkdir(parents=True, exist_ok=True)
    for name, part in zip(FILES[split], np.array_split(records, len(FILES[split])), strict=True):
        (cache / "cifar10" / name).write_bytes(part.tobytes())


def random_records(count: int) -> np.ndarray:
    records = np.random.default_rng(count).integers(0, 256, (count, RECORD), np.uint8)
    records[:, 0] %= 10
    return records
