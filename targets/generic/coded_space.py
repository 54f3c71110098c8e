"""What a convolution whose weights are codes may be computed with: any way that plain weights may, and kernels that look the codes up
themselves, in registers or a channel block at a time.

Untuned, that is where a layer has one pixel and more weights than caches hold, on CPUs that look a vector of codes up in a few
instructions: then it waits for memory, and fewer bytes are less time. Elsewhere looking codes up costs what it saves, and a tuner has to
find out. Winograd, which transforms its weights, has no use for codes: the file would be no smaller, so that it is never untuned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest

from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.generic.streams import waits_for_memory
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.generic.winograd_tile import WinogradTile
from tvm_rsq.targets.workload import Conv2DWorkload


def coded_choices(w: Conv2DWorkload, plain: Sequence[Choice], is_quick: Callable[[Tile], bool]) -> tuple[Choice, ...]:
    """The untuned one first.   plain: of the same workload with plain weights; is_quick: whether looking a tile's codes up is"""
    plain = sorted(plain, key=lambda choice: isinstance(choice, WinogradTile))  # keeps its order otherwise
    tiles = [choice for choice in plain if isinstance(choice, Tile)]
    in_registers = [replace(tile, codes="kernel") for tile in tiles]
    if waits_for_memory(w) and tiles and is_quick(tiles[0]):
        return (*in_registers, *plain)
    several = w.batch * w.out_height * w.out_width > 1
    by_block = [replace(tile, codes="block", outer="channels") for tile in tiles if several]
    own = [choice for pair in zip_longest(by_block, in_registers) for choice in pair if choice]
    return tuple(dict.fromkeys([*plain[:1], *own, *plain[1:]]))
