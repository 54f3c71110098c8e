"""Names that tell the files of a comparison apart and are no longer than that takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def distinct_labels(paths: Sequence[Path]) -> tuple[str, ...]:
    """For each file the last parts of its path that no other one ends in; without the suffix where that does no harm.

    a/net.rsq, b/net.rsq, small.rsq -> "a/net", "b/net", "small".   ValueError: a file is given twice
    """
    resolved = [path.resolve() for path in paths]
    twice = next((path for path, count in Counter(resolved).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{paths[resolved.index(twice)]} is given twice, expected files that differ")
    stems = [path.with_suffix("") for path in resolved]
    return _shortest(stems if len(set(stems)) == len(stems) else resolved)


def _shortest(paths: Sequence[Path]) -> tuple[str, ...]:
    endings = Counter(path.parts[-count:] for path in paths for count in range(1, len(path.parts) + 1))
    return tuple(
        str(Path(*path.parts[-next(n for n in range(1, len(path.parts) + 1) if endings[path.parts[-n:]] == 1 or n == len(path.parts)) :]))
        for path in paths
    )
