"""int32 arithmetic modulo 2^32. TVM emits int32 sums and products as `nsw`, uint32 ones as `nuw`: undefined where they wrap around.

Extended to 64 bits they cannot wrap, and LLVM makes the plain 32-bit instruction of an operation whose upper half is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.ir import Expr


@dataclass(frozen=True, slots=True)
class Wrapping:
    """An int32 value, or a vector of them, whose sums, differences, products and left shifts are taken modulo 2^32."""

    value: Expr

    def __add__(self, other: Wrapping) -> Wrapping:
        return self._narrow(self._wide() + other._wide())

    def __sub__(self, other: Wrapping) -> Wrapping:
        return self._narrow(self._wide() - other._wide())

    def __mul__(self, factor: int) -> Wrapping:
        return self._narrow(self._wide() * factor)

    # TVM promises nothing about what a shift loses.
    def __lshift__(self, bits: int) -> Wrapping:
        return Wrapping(self.value << bits)

    def __rshift__(self, bits: int) -> Wrapping:
        return Wrapping(self.value >> bits)

    def _wide(self) -> Expr:
        return self.value.astype(str(self.value.ty).replace("int32", "int64"))

    def _narrow(self, wide: Expr) -> Wrapping:
        return Wrapping(wide.astype(str(self.value.ty)))


def wrapping_sum(a: Expr, b: Expr) -> Expr:
    """a + b modulo 2^32, of int32 or vectors of it."""
    return (Wrapping(a) + Wrapping(b)).value
