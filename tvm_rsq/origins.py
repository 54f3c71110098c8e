"""Which tensors share their quantization: what only moves values, and what is only concatenated.

    p = max_pool2d(x)               p is quantized as x is
    y = concat(a, b)                a and b, if nothing else reads them, are quantized as y is

A part of a concatenation is requantized to its scale in any case. Made in that scale from the accumulator, it is rounded once instead of
twice, and the concatenation has nothing left to compute.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import Islands


def origins(view: Dataflow, islands: Islands, own: Collection[str]) -> dict[str, str]:
    """Stored tensor -> the one whose quantization it has, itself for most.   own: those that keep theirs, such as the network's inputs"""
    moved_from = {island.output: island.inputs[0] for island in islands.islands if island.keeps_scale}
    moved = {name: _last(name, moved_from) for name in islands.quantized}
    groups: dict[str, set[str]] = {}
    for name, root in moved.items():
        groups.setdefault(root, {root}).add(name)
    concats = {island.output for island in islands.islands if island.kind == "concat"} & moved.keys()
    into: dict[str, str] = {}
    for root, group in groups.items():
        readers = _readers(view, islands, group)
        if len(readers) == 1 and readers <= concats and not group & set(own):
            into[root] = moved[readers.pop()]
    return {name: _last(root, into) for name, root in moved.items()}


def _readers(view: Dataflow, islands: Islands, group: Collection[str]) -> set[str]:
    """What reads the tensors of a group, themselves excepted: outputs of integer islands, and names of everything else."""
    found: set[str] = set()
    for name in group:
        for user in view.users[name]:
            outputs = {island.output for island in islands.islands if user in island.ops and name in island.inputs}
            found |= outputs or {user}
            if user in islands.float_ops:  # a split of which one piece is wanted in float is read there, too
                found.add(user)
    return found - set(group)


def _last(name: str, following: Mapping[str, str]) -> str:
    while name in following:
        name = following[name]
    return name
