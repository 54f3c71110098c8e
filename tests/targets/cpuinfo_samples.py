"""What /proc/cpuinfo said of one processor, on boards and in clouds: of each the lines that are read."""

from __future__ import annotations

_LINES = (
    "processor\t: 0\nBogoMIPS\t: 100.00\nFeatures\t: {words}\nCPU implementer\t: {implementer}\nCPU architecture: 8\n"
    "CPU variant\t: {variant}\nCPU part\t: {part}\nCPU revision\t: 1\n\n"
)
_ARMV8_0 = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
_ARMV8_4 = "atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3"
_ARMV8_2 = f"{_ARMV8_0} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


def _sample(words: str, part: str, variant: str = "0x0", implementer: str = "0x41") -> str:
    return _LINES.format(words=words, part=part, variant=variant, implementer=implementer)


# Preset -> the file on a machine that it is meant for.
SAMPLES = {
    "raspberry-pi-3": _sample("fp asimd evtstrm crc32 cpuid", "0xd03"),
    "raspberry-pi-4": _sample("fp asimd evtstrm crc32 cpuid", "0xd08"),
    "raspberry-pi-5": _sample(_ARMV8_2, "0xd0b", "0x4"),
    "jetson-nano": _sample(f"{_ARMV8_0} cpuid", "0xd07", "0x1"),
    "jetson-agx-xavier": _sample(f"{_ARMV8_0} atomics fphp asimdhp cpuid asimdrdm dcpop", "0x004", implementer="0x4e"),
    "jetson-agx-orin": _sample(f"{_ARMV8_2} uscat ilrcpc flagm paca pacg", "0xd42"),
    "neoverse-n1": _sample(f"{_ARMV8_2} ssbs", "0xd0c", "0x3"),  # Graviton 2
    "neoverse-v1": _sample(  # Graviton 3
        f"{_ARMV8_0} {_ARMV8_4} sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs "
        "paca pacg dcpodp svei8mm svebf16 i8mm bf16 dgh rng", "0xd40", "0x1",
    ),
    "apple-m1": _sample(  # Asahi Linux
        f"{_ARMV8_0} {_ARMV8_4} asimddp sha512 asimdfhm dit uscat ilrcpc flagm ssbs sb "
        "paca pacg dcpodp flagm2 frint", "0x022", "0x1", implementer="0x61",
    ),
}  # fmt: skip

# A CPU that has i8mm and bf16, of which its kernel does not know.
GRAVITON3_OF_AN_OLD_KERNEL = _sample(
    f"{_ARMV8_0} {_ARMV8_4} sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs", "0xd40", "0x1"
)  # fmt: skip
X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: a Xeon\nflags\t\t: fpu pni ssse3 sse4_1 sse4_2 popcnt avx avx2 fma\n\n"
