"""Damage that needs to know nothing of a file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_MOST_FLIPS = 64


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    """1 to 64 bits flipped."""
    damaged = bytearray(data)
    for position in rng.integers(0, len(data), int(rng.integers(1, _MOST_FLIPS + 1))):
        damaged[position] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def flipped_in_front(data: bytes, rng: np.random.Generator) -> bytes:
    """1 to 4 bits flipped in the first and last thousand bytes, where files tend to say what they hold."""
    damaged = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        position = int(rng.integers(0, min(1000, len(data))))
        damaged[position if rng.random() < 0.5 else -1 - position] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def truncated(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def cut_out(data: bytes, rng: np.random.Generator) -> bytes:
    """A piece is missing inside."""
    begin, end = sorted(int(each) for each in rng.integers(0, len(data), 2))
    return data[:begin] + data[end:]


def overwritten(data: bytes, rng: np.random.Generator) -> bytes:
    """A piece is zeros, ones or noise."""
    begin, size = int(rng.integers(0, len(data))), int(rng.integers(1, 200))
    piece = rng.choice([bytes(size), b"\xff" * size, rng.bytes(size)])
    return data[:begin] + piece + data[begin + size :]


def prolonged(data: bytes, rng: np.random.Generator) -> bytes:
    return data + rng.bytes(int(rng.integers(1, 5000)))


BYTES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "flipped bits": flipped, "flipped bits in front": flipped_in_front, "truncated": truncated, "cut out": cut_out,
    "overwritten": overwritten, "prolonged": prolonged,
}  # fmt: skip
