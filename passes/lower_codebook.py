"""Lower a weight whose integers are entries of a codebook: to codes that its kernel looks up, or that are expanded at loading.

Before  conv2d(x_q, w)                      w int8, its values those of rsq.codebook
After   kernel(x_q, codes, table, ...)      codes packed, two of 4 bits a byte: the weight itself exists nowhere, not even in the kernel
or      w' = expand(codes, table)           in a function of its own, once; main takes w' as a further parameter
        kernel(x_q, w', ...)

Which of both is the kernel's to say. Kernels that transform their weights (Winograd) have no use for codes, and get them plain.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tvm_rsq.codebook.encode import codes
from tvm_rsq.passes.island_view import Expanded
from tvm_rsq.targets.code_rows import CODE_BITS, CodeRows
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.kernel_library import KernelLibrary
from tvm_rsq.targets.workload import ExpandWorkload


def code_bits(book: Sequence[int]) -> int:
    """Bits of a code into a book of 2^bits entries; 0 without one.   ValueError: another number of entries"""
    if not book:
        return 0
    bits = len(book).bit_length() - 1
    if bits not in CODE_BITS or len(book) != 2**bits:
        raise ValueError(f"a codebook of {len(book)} entries, expected 2 to the power of one of {CODE_BITS}; make the plan again")
    return bits


def lower_codebook(kernel: Kernel, packed: np.ndarray, book: Sequence[int], library: KernelLibrary) -> list[np.ndarray | Expanded]:
    """The kernel's arguments for its weight.

    packed  what kernel.pack_weight made of the int8 weight
    book    ascending, as annotate_qdq notes it; empty for a plain weight
    ConfigError: an integer that is not in the book.
    """
    if not book or not (kernel.codes or kernel.expanded):
        return [packed]
    entries = np.array(book, np.int8)
    each = codes(packed.reshape(1, -1), entries[None]).reshape(packed.shape)
    if kernel.codes:
        return [kernel.codes.pack(each).reshape(-1), kernel.codes.table(entries)]
    expand = library.expand(ExpandWorkload(bits=code_bits(book), shape=packed.shape, dtype=str(packed.dtype)))
    table = CodeRows(code_bits(book)).table(entries)
    return [Expanded(kernel=expand, codes=expand.pack_weight(each), table=table, shape=packed.shape, dtype=str(packed.dtype))]
