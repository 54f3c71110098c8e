"""What a convolution whose weights are codes may be computed with: any way that plain weights may, and kernels that look the codes up
themselves.

Untuned, that is where a layer has one pixel and more weights than caches hold: then it waits for memory, and fewer bytes are less
time. Elsewhere looking codes up costs what it saves, and a tuner has to find out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.generic.streams import waits_for_memory
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.workload import Conv2DWorkload


def coded_choices(w: Conv2DWorkload, plain: Sequence[Choice]) -> tuple[Choice, ...]:
    """The untuned one first.   plain: of the same workload with plain weights"""
    own = [replace(choice, codes="kernel") for choice in plain if isinstance(choice, Tile)]
    both = (own, plain) if waits_for_memory(w) else (plain[:1], own, plain[1:])
    return tuple(choice for choices in both for choice in choices)

