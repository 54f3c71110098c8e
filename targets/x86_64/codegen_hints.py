"""What LLVM has to be told about x86-64 CPUs for our kernels' sake. Hints change which instructions it picks, not which it may use."""

from __future__ import annotations


def codegen_hints(features: frozenset[str]) -> tuple[str, ...]:
    """Attributes, in LLVM's spelling, for a CPU with these features.

    LLVM splits vpdpwssd into vpmaddwd and vpaddd for a shorter chain of dependent sums. Our kernels keep enough accumulators in flight for
    that not to matter, and are bound by the number of instructions.
    """
    return ("+fast-dpwssd",) if features & {"avx512vnni", "avxvnni"} else ()
