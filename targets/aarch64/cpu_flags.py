"""Features of aarch64 CPUs: what Linux says of them, in /proc/cpuinfo and in the auxiliary vector, in LLVM's names."""

from __future__ import annotations

# Word of /proc/cpuinfo -> LLVM feature. The values are all the features that compiled code may depend on: what is not in here LLVM does
# not use by itself. Cryptography (aes, sha2) is not: Arm's cores are sold with and without it, a Raspberry Pi 4 has none, and LLVM, which
# takes it for granted, has no use for it; sha3 is, for its three-way exclusive or.
FLAGS = {
    "fp": "fp-armv8", "asimd": "neon", "asimdhp": "fullfp16", "asimddp": "dotprod", "asimdrdm": "rdm", "atomics": "lse", "crc32": "crc",
    "sha3": "sha3", "i8mm": "i8mm", "bf16": "bf16", "sve": "sve", "sve2": "sve2", "sve2p1": "sve2p1", "sme": "sme", "fcma": "complxnum",
    "jscvt": "jsconv", "lrcpc": "rcpc", "mops": "mops", "cssc": "cssc", "faminmax": "faminmax",
}  # fmt: skip

# The words of /proc/cpuinfo by the bits that stand for them in AT_HWCAP and AT_HWCAP2, from bit 0 on.
_HWCAP = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4 asimddp sha512 "
    "sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg"
).split()
_HWCAP2 = (
    "dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 i8mm bf16 dgh rng bti mte ecv "
    "afp rpres mte3 sme smei16i64 smef64f64 smei8i32 smef16f32 smeb16f32 smef32f32 smefa64 wfxt ebf16 sveebf16 cssc rprfm sve2p1 sme2 "
    "sme2p1 smei16i32 smebi32i32 smeb16b16 smef16f16 mops hbc sveb16b16 lrcpc3 lse128 fpmr lut faminmax"
).split()


def hwcap_words(hwcap: int, hwcap2: int) -> frozenset[str]:
    """The words of /proc/cpuinfo that a kernel says with these two entries of the auxiliary vector."""
    pairs = ((hwcap, _HWCAP), (hwcap2, _HWCAP2))
    return frozenset(word for bits, words in pairs for bit, word in enumerate(words) if bits >> bit & 1)


def hwcap_bits(word: str) -> tuple[int, int]:
    """What AT_HWCAP and AT_HWCAP2 have set where the kernel says `word`: the inverse of `hwcap_words`. KeyError: it says no such word."""
    for index, words in enumerate((_HWCAP, _HWCAP2)):
        if word in words:
            bit = 1 << words.index(word)
            return (0, bit) if index else (bit, 0)
    raise KeyError(word)
