"""Arithmetic of axis orders: where the axes of a tensor went when another layout stores it.

An order says for each stored axis which axis of the original tensor it is: (0, 2, 3, 1) stores NCHW as NHWC. What an operator does to the
original's axes (drop some, insert some, regroup them) is here translated to the stored tensor.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

Order = tuple[int, ...]

CHANNELS_LAST: Order = (0, 2, 3, 1)


def identity(rank: int) -> Order:
    """The order of a tensor that is stored as it is."""
    return tuple(range(rank))


def conversion(source: Order, target: Order) -> Order:
    """The axes of the permute_dims that turns a tensor stored in one order into another."""
    return tuple(source.index(axis) for axis in target)


def moves_data(shape: Sequence[int], source: Order, target: Order) -> bool:
    """Whether that conversion moves elements; it does not where only extents of 1 change places. shape: the original's.

    Axis 0 counts whatever its extent: a network of batch 1 is evaluated with larger batches.
    """
    return [a for a in source if shape[a] > 1 or a == 0] != [a for a in target if shape[a] > 1 or a == 0]


def without_axes(order: Order, gone: Collection[int]) -> Order:
    """The order after a reduction or squeeze of these original axes."""
    kept = sorted(set(order) - set(gone))
    return tuple(kept.index(axis) for axis in order if axis not in gone)


def with_axes(order: Order, inserted: Collection[int]) -> Order:
    """The order after expand_dims, such that nothing moves. inserted: axes of the result."""
    rank = len(order) + len(inserted)
    kept = [axis for axis in range(rank) if axis not in inserted]
    return _complete([kept[axis] for axis in order], rank)


def permuted(order: Order, axes: Sequence[int]) -> Order:
    """The order of permute_dims(original, axes), when the stored tensor stays as it is."""
    return tuple(list(axes).index(axis) for axis in order)


def reshaped(source: Sequence[int], target: Sequence[int], order: Order) -> tuple[Order, Order]:
    """(order to bring the source into, order that the result then has) for a reshape of the original from `source` to `target`.

    The first is `order` itself where nothing has to move: axes that are split or merged stand together, in their original sequence.
    """
    blocks = _blocks(source, target)
    sequence: list[int] = []
    result: list[int] = []
    for axis in order:
        for merged, split in blocks:
            if axis in merged and axis not in sequence:
                sequence += merged
                result += split
    if sequence != [axis for axis in order if source[axis] > 1]:
        order = _complete(sequence, len(source))
    return order, _complete(result, len(target))


def _blocks(source: Sequence[int], target: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of axes of equal product, extents of 1 aside: (axes of source, axes of target) of each."""
    left = [axis for axis, extent in enumerate(source) if extent > 1]
    right = [axis for axis, extent in enumerate(target) if extent > 1]
    blocks = []
    while left:
        ours, theirs = [left.pop(0)], [right.pop(0)]
        products = [source[ours[0]], target[theirs[0]]]
        while products[0] != products[1]:
            if products[0] < products[1]:
                ours.append(left.pop(0))
                products[0] *= source[ours[-1]]
            else:
                theirs.append(right.pop(0))
                products[1] *= target[theirs[-1]]
        blocks.append((ours, theirs))
    return blocks


def _complete(sequence: Sequence[int], rank: int) -> Order:
    """An order of all axes in which these, the ones that matter, have this sequence: a usual layout if one fits."""
    for candidate in (CHANNELS_LAST, identity(rank)):
        if len(candidate) == rank and [axis for axis in candidate if axis in sequence] == list(sequence):
            return candidate
    order = list(sequence)
    for axis in range(rank):
        if axis not in sequence:
            order.insert(order.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(order)
