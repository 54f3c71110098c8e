"""Lower a weight whose values are entries of a codebook: to codes that its kernel looks up, or that are expanded at loading.

Before  conv2d(x_q, w)                      w int8, its values those of rsq.codebook; or float32, products of rsq.levels
After   kernel(x_q, codes, table, ...)      codes packed, two of 4 bits a byte: the weight itself exists nowhere, not even in the kernel
or      w' = expand(codes, table, ...)      in a function of its own, once; main takes w' as a further parameter
        kernel(x_q, w', ...)

Which of both is the kernel's to say, and with several books or float levels it is always the second. Kernels that transform their weights
(Winograd) have no use for codes, and get them plain; so do the few whose layout has no slots (see Kernel.spread).
"""

from __future__ import annotations

from collections.abc import Sequence, Sized

import numpy as np

from tvm_rsq.codebook.encode import channels_of, codes
from tvm_rsq.codebook.scaled_levels import ScaledLevels
from tvm_rsq.errors import ConfigError
from tvm_rsq.passes.island_view import Expanded
from tvm_rsq.targets.code_rows import CODE_BITS, CodeRows
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.kernel_library import KernelLibrary
from tvm_rsq.targets.slots import packed_codes, slot_channels
from tvm_rsq.targets.workload import CodeBits, ExpandWorkload, WeightType


def code_bits(book: Sized) -> CodeBits:
    """Bits of a code into a book of 2^bits entries.   ValueError: another number of entries"""
    bits = next((bits for bits in CODE_BITS if len(book) == 2**bits), None)
    if bits is None:
        raise ValueError(f"a codebook of {len(book)} entries, expected 2 to the power of one of {CODE_BITS}; make the plan again")
    return bits


def lower_codebook(
    kernel: Kernel, weight: np.ndarray, books: Sequence[Sequence[int]], library: KernelLibrary
) -> list[np.ndarray | Expanded]:
    """The kernel's arguments for its weight.

    weight  int8 OHWI
    books   as annotate_qdq notes them; none for a plain weight
    ConfigError: an integer that is not in its book.
    """
    packed = kernel.pack_weight(weight)
    if len(books) > 1 and kernel.spread is not None:
        return [_of_books(kernel, weight, np.array(books, np.int8), packed, library)]
    if len(books) != 1 or not (kernel.codes or kernel.expanded):
        return [packed]
    bits, entries = code_bits(books[0]), np.array(books[0], np.int8)
    each = codes(packed.reshape(1, -1), entries[None]).reshape(packed.shape)
    if kernel.codes:
        return [kernel.codes.pack(each).reshape(-1), kernel.codes.table(entries)]
    expand = library.expand(ExpandWorkload(bits=bits, shape=packed.shape, dtype=_carrier(packed)))
    return [
        Expanded(
            kernel=expand, codes=expand.pack_weight(each), table=CodeRows(bits).table(entries), shape=packed.shape, dtype=str(packed.dtype)
        )
    ]


def lower_levels(kernel: Kernel, weight: np.ndarray, levels: ScaledLevels, library: KernelLibrary) -> list[np.ndarray | Expanded]:
    """The same of a layer in float.   weight: float32 OHWI.   ConfigError: a weight that is no product of the levels"""
    rows, packed = weight.reshape(len(weight), -1), kernel.pack_weight(weight)
    each = levels.codes(rows)
    if not np.array_equal(levels.products(each), rows):
        raise ConfigError(f"weights of shape {weight.shape} are not all products of their {len(levels.levels)} levels; make the plan again")
    if kernel.spread is None:
        return [packed]
    channels = slot_channels(kernel, weight.shape)
    zero = np.full(channels.shape, np.argmin(np.abs(levels.levels)), np.uint8)
    expand = library.expand(
        ExpandWorkload(bits=code_bits(levels.levels), shape=packed.shape, dtype="float32", spread=kernel.spread)
    )
    stored = expand.pack_weight(packed_codes(kernel, each.reshape(weight.shape), zero))
    of_slot = levels.scale[channels].reshape(-1)
    return [Expanded(kernel=expand, codes=stored, table=levels.levels, of_slot=of_slot, shape=packed.shape, dtype="float32")]


def _of_books(kernel: Kernel, weight: np.ndarray, books: np.ndarray, packed: np.ndarray, library: KernelLibrary) -> Expanded:
    bits = code_bits(books[0])
    each = codes(weight.reshape(len(weight), -1), books).reshape(weight.shape)
    book_of_slot = slot_channels(kernel, weight.shape) // channels_of(books, len(weight))
    zero = (books == 0).argmax(axis=1).astype(np.uint8)
    expand = library.expand(
        ExpandWorkload(bits=bits, shape=packed.shape, dtype=_carrier(packed), books=len(books), spread=kernel.spread)
    )
    return Expanded(
        kernel=expand, codes=expand.pack_weight(packed_codes(kernel, each, zero[book_of_slot])), table=books.reshape(-1),
        of_slot=(book_of_slot * 2**bits).astype(np.int32).reshape(-1), shape=packed.shape, dtype=str(packed.dtype),
    )  # fmt: skip


def _carrier(weight: np.ndarray) -> WeightType:
    return "int16" if weight.dtype == np.int16 else "int8"
