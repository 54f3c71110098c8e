"""What a C compiler's -march and -mcpu say of an aarch64 CPU, in the options of a target here."""

from __future__ import annotations

import re

# Extensions that LLVM calls something else; all others have one name.
LLVM_NAMES = {
    "fp16": "fullfp16", "simd": "neon", "fp": "fp-armv8", "rdma": "rdm", "fcma": "complxnum", "jscvt": "jsconv", "memtag": "mte",
    "rng": "rand", "profile": "spe",
}  # fmt: skip

_ARCHITECTURE = re.compile(r"armv(?P<major>[89])(\.(?P<minor>\d))?-a")


def target_options(said: str) -> str | None:
    """"armv8.2-a+dotprod" -> "-mtriple=aarch64 -mattr=+v8.2a,+dotprod", "cortex-a72+nofp" -> "-mcpu=cortex-a72 -mattr=-fp-armv8".

    None: `said` is neither an architecture nor anything with extensions.
    """
    name, *extensions = said.split("+")
    architecture = _ARCHITECTURE.fullmatch(name)
    if not architecture and not extensions:
        return None
    words = [_word(extension) for extension in extensions]
    if architecture and name != "armv8-a":
        words.insert(0, "+v" + name.removeprefix("armv").replace("-", ""))
    start = "-mtriple=aarch64" if architecture else f"-mcpu={name}"
    return f"{start} -mattr={','.join(words)}" if words else start


def _word(extension: str) -> str:
    sign, name = ("-", extension.removeprefix("no")) if extension.startswith("no") else ("+", extension)
    return sign + LLVM_NAMES.get(name, name)
