"""Random workloads of the kernels that move values: their arguments, and the answer by numpy's own indexing."""

from __future__ import annotations

import numpy as np
from exact_reference import affine_rounded, fma32
from random_draw import SCALES, WIDTHS, Draw, Drawn
from resize_reference import COORDINATE, ROUND, index_map

from tvm_rsq.targets import workloads_movement as movement
from tvm_rsq.targets.generic.quantize import requantize_affine


def concat(d: Draw) -> Drawn:
    shape, clips = d.shape(), d.clips()
    axis = d.whole(0, len(shape) - 1)
    extents = [d.of(*WIDTHS) if axis == len(shape) - 1 else d.whole(1, 4) for _ in range(d.whole(1, 4))]
    parts = [d.values((*shape[:axis], extent, *shape[axis + 1 :])) for extent in extents]
    changed = tuple(d.flag() for _ in parts)
    affine = np.stack([requantize_affine(d.of(*SCALES), d.level(), 0.6, d.level()) for _ in parts])
    moved = [
        affine_rounded(fma32(q, *row), 1, 0, clips["qmin"], clips["qmax"], "uint8") if change else q
        for q, row, change in zip(parts, affine, changed, strict=True)
    ]
    w = movement.ConcatWorkload(shapes=tuple(q.shape for q in parts), axis=axis, requantized=changed, **clips)
    return Drawn(w, parts, [affine], np.concatenate(moved, axis))


def permute(d: Draw) -> Drawn:
    shape = d.shape(2, 5)
    q, order = d.values(shape), d.order(len(shape))
    return Drawn(movement.PermuteWorkload(shape=shape, permutation=order), [q], [], q.transpose(order))


def pad(d: Draw) -> Drawn:
    shape, value = d.shape(), d.level()
    before, after = (tuple(d.of(0, 0, 1, 3) for _ in shape) for _ in range(2))
    q = d.values(shape)
    wide = np.pad(q, list(zip(before, after, strict=True)), constant_values=value)
    return Drawn(movement.PadWorkload(shape=shape, before=before, after=after, value=value), [q], [], wide)


def strided_slice(d: Draw) -> Drawn:
    shape = d.shape()
    begin, strides = tuple(d.whole(0, extent - 1) for extent in shape), tuple(d.of(1, 1, 2, 3, -1, -2) for _ in shape)
    reach = [(extent - 1 - b) // s + 1 if s > 0 else b // -s + 1 for extent, b, s in zip(shape, begin, strides, strict=True)]
    out = tuple(d.whole(1, most) for most in reach)
    q = d.values(shape)
    rows = [b + s * np.arange(count) for b, s, count in zip(begin, strides, out, strict=True)]
    return Drawn(movement.StridedSliceWorkload(shape=shape, begin=begin, strides=strides, out_shape=out), [q], [], q[np.ix_(*rows)])


def resize_nearest(d: Draw) -> Drawn:
    shape, out, how, rounding = d.image(), (d.whole(1, 19), d.whole(1, 19)), d.of(*COORDINATE), d.of(*ROUND)
    q = d.values(shape)
    rows, columns = (index_map(extent, count, how, rounding) for extent, count in zip(shape[1:3], out, strict=True))
    w = movement.ResizeNearestWorkload(shape=shape, out_size=out, coordinates=how, rounding=rounding)
    return Drawn(w, [q], [], q[:, rows][:, :, columns])
