"""The cases of the bundle, all kinds of kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scripts.device_pack.copy_cases import copy_cases
from scripts.device_pack.expand_cases import expand_cases
from scripts.device_pack.lookup_cases import lookup_cases
from scripts.device_pack.made_case import MadeCase


def all_cases(widths: Sequence[int] = ()) -> Iterator[MadeCase]:
    """widths: see expand_cases"""
    yield from lookup_cases()
    yield from expand_cases(widths)
    yield from copy_cases()
