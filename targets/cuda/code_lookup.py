"""Codes to weights on a GPU: of 16 entries, four at once in registers by byte permutes; of 64 entries, byte by byte in shared memory.

A nibble word is a uint32 of eight 4-bit codes, the first in its lowest bits. Four bytes of a row of 4-bit codes (targets/code_rows.py) are
one as they stand. Byte i of the row holds code i of vector a and above it code i of vector b, so what is found for a word is the weights
of both in turns, a[0] b[0] a[1] b[1] in one register and a[2] b[2] a[3] b[3] in the next. To take the vectors apart would cost two more
permutes; whoever packs saves them, see `ExpandSchedule.order`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.generic.steps import vector

LANES = (4, 8, 16)  # bytes that CUDA has vectors for


@dataclass(frozen=True, slots=True)
class PermuteLookup:
    """A `CodeLookup` of a GPU's thread. Tables of 64 entries should be in shared memory, see `share_table`.

    Four nibbles take seven instructions, four codes of a byte each take three more: kernels that can should use `nibbles`.
    """

    def apply(self, table: Expr, entries: int, codes: Expr, lanes: int) -> Expr:
        """ValueError: lanes is not in LANES."""
        if lanes not in LANES:
            raise ValueError(f"lanes is {lanes}, expected one of {LANES}, which CUDA has vectors for; look so many codes up at a time")
        words = as_words(codes, lanes)
        if entries == 16:
            registers = self.registers(table)
            # Bytes 0 and 2 of this hold two codes each.
            return as_bytes([self._four(registers, _permute(word | word >> _u32(4), _u32(0), 0x4420)) for word in words])
        return as_bytes([_joined([_entry(table, word, i) for i in range(4)]) for word in words])

    def is_quick(self, entries: int, lanes: int) -> bool:
        return entries == 16 and lanes in LANES

    @staticmethod
    def registers(table: Expr) -> list[Expr]:
        """Emit the load of 16 entries into four registers, uint32; they serve any number of calls of `nibbles`."""
        return [T.bind(tirx.reinterpret("uint32", table.vload([start], "int8x4"))) for start in range(0, 16, 4)]

    def nibbles(self, registers: Sequence[Expr], word: Expr) -> list[Expr]:
        """Two uint32: the entries of a nibble word's lower and upper four codes, in their order, one a byte."""
        return [self._four(registers, word), self._four(registers, word >> _u32(16))]

    def bytes_in_turns(self, table: Expr, first: Expr, second: Expr) -> list[Expr]:
        """Two uint32: the entries of first's code 0, second's code 0, first's code 1, ...   first, second: uint32, a code a byte"""
        found = [_entry(table, word, i) for i in range(4) for word in (first, second)]
        return [_joined(found[:4]), _joined(found[4:])]

    @staticmethod
    def _four(registers: Sequence[Expr], selector: Expr) -> Expr:
        """The entries of the lower four nibbles. A code's three low bits select within eight entries, the highest between the two found."""
        # PRMT replicates a byte's sign where the highest bit of a nibble is set. __byte_perm is documented not to, and clears these bits
        # itself; nvcc makes one mask of both. The bits above 16 it does not look at.
        within = selector & _u32(0x7777)
        low, high = _permute(registers[0], registers[1], within), _permute(registers[2], registers[3], within)
        return _permute(low, high, (selector & _u32(0x8888)) >> _u32(1) | _u32(0x3210))


def nibble_words(codes: CodeRows, rows: Sequence[Expr]) -> list[Expr]:
    """One for vectors 0 and 1, one for 2 and 3, ...; codes: of 3 or 4 bits; rows: four bytes of each row of a group, uint32"""
    if codes.bits == 4:
        return list(rows)
    words = codes.unpack_words(rows)
    return [first | second << _u32(4) for first, second in zip(words[::2], words[1::2], strict=True)]


def as_words(values: Expr, lanes: int) -> list[Expr]:
    """uint32, one for every four bytes.   values: uint8 x lanes, of LANES"""
    together = tirx.reinterpret(vector("uint32", lanes // 4), values)
    return [together] if lanes == 4 else [tirx.Shuffle([together], [i]) for i in range(lanes // 4)]


def as_bytes(words: Sequence[Expr]) -> Expr:
    """int8 x 4 len(words), the lowest byte first.   words: uint32, one, two or four"""
    together = words[0] if len(words) == 1 else tirx.Shuffle(list(words), list(range(len(words))))
    return tirx.reinterpret(f"int8x{4 * len(words)}", together)


def share_table(table: Expr, entries: int, threads: int) -> Expr:
    """Emit, in a block and outside the loop over its threads: the table's copy in shared memory, which is returned. TVM adds the barrier.

    64 bytes are 16 of the 32 banks, and a bank gives one word to all who ask for any byte of it: whatever the codes, no thread waits for
    another of its warp.   ValueError: the block has fewer than entries / 4 threads
    """
    if threads < entries // 4:
        raise ValueError(f"threads is {threads}, expected at least {entries // 4}, as each copies four entries; make the blocks larger")
    # Every entry has to be stored, used or not: TVM cuts an allocation down to what it sees accessed, and codes it cannot see.
    shared = T.alloc_buffer((entries,), "int8", scope="shared")
    with T.thread_binding(threads, thread="threadIdx.x") as thread:
        with T.If(thread < entries // 4), T.Then():
            T.buffer_store(shared, table.vload([thread * 4], "int8x4"), [tirx.Ramp(thread * 4, 1, 4)])
    return shared


def _permute(low: Expr, high: Expr, selector: Expr | int) -> Expr:
    # TVM prints a call by name as it stands, without a cast: the result's type is the one that CUDA declares.
    selector = _u32(selector) if isinstance(selector, int) else selector
    return tirx.call_pure_extern("uint32", "__byte_perm", low, high, selector)


def _entry(table: Expr, word: Expr, i: int) -> Expr:
    """uint8: that of the i-th byte of a word."""
    code = word >> _u32(8 * i) & _u32(0xFF)
    return table[code.astype("int32")].astype("uint8")


def _joined(found: Sequence[Expr]) -> Expr:
    words = [entry.astype("uint32") << _u32(8 * i) for i, entry in enumerate(found)]
    return words[0] | words[1] | words[2] | words[3]


def _u32(value: int) -> Expr:
    return tirx.const(value, "uint32")
