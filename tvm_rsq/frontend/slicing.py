"""A slice with step 1, as the split that cuts it out: splits are the one form of slicing that a canonical Model holds."""

from __future__ import annotations

from tvm import relax

from tvm_rsq.errors import UnsupportedError
from tvm_rsq.passes.rewrite_bindings import static_shape


def slice_as_split(builder: relax.BlockBuilder, x: relax.Expr, axis: int, start: int, stop: int | None, step: int = 1) -> relax.Expr:
    """x[start:stop:step] along `axis`, with Python's meaning of negative and too large bounds.

    UnsupportedError: a step other than 1, or an empty slice.
    """
    shape = static_shape(x)
    axis %= len(shape)
    start, stop, step = slice(start, stop, step).indices(shape[axis])
    if step != 1 or stop <= start:
        raise UnsupportedError(f"slice {start}:{stop}:{step} of an axis of extent {shape[axis]}, expected step 1 and at least one element")
    if (start, stop) == (0, shape[axis]):
        return x
    cuts = [cut for cut in (start, stop) if 0 < cut < shape[axis]]
    parts = builder.emit(relax.op.split(x, cuts, axis))
    return builder.emit(relax.TupleGetItem(parts, 1 if start else 0))
