"""What callgrind wrote, uncompressed (--compress-strings=no --compress-pos=no): the instructions that one object executed itself."""

from __future__ import annotations

from collections.abc import Iterable


def self_cost(lines: Iterable[str], library: str) -> int:
    """Instructions executed by the code of the object whose path is `library`, not by what it called.

    ValueError: the output counts something else than instructions alone, or nothing at all of `library`.
    """
    inside, called, found = False, False, 0
    for line in lines:
        line = line.strip()
        if line.startswith("events:") and line.split()[1:] != ["Ir"]:
            raise ValueError(f"callgrind counted {line.partition(':')[2].strip()}, expected Ir alone")
        if line.startswith("ob="):
            inside = line[3:] == library
        elif line.startswith("calls="):
            called = True  # the next line is the callee's cost
        elif line[:1].isdigit():
            if inside and not called:
                found += int(line.split()[1])
            called = False
    if not found:
        raise ValueError(f"callgrind saw no instruction of {library}, expected a kernel's call")
    return found
