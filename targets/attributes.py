"""Features as a user switches them on and off: `-mattr=+dotprod,-sve`.

LLVM lets a word that it does not know pass with a log line, and takes contradictions in the order in which they stand.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from tvm.target import Target, codegen

from tvm_rsq.errors import TargetError
from tvm_rsq.targets.aarch64.compiler_spelling import LLVM_NAMES
from tvm_rsq.targets.host import INSTRUCTION_SETS

# What every CPU of an architecture has under Linux, and LLVM cannot do without in vectorised code: it ends the process.
_ALWAYS = {"aarch64": ("neon", "fp-armv8"), "x86_64": ()}
# Whoever has the one has the other, which LLVM does not know: no CPU multiplies matrices of int8 without the dot product.
_IMPLIES = {"i8mm": "dotprod"}


def check_words(words: Sequence[str], triple: str) -> list[str]:
    """The words, all of them `+feature` or `-feature` that LLVM knows, none of them both.   TargetError: any that is not."""
    for word in words:
        _check_known(word, triple)
    for word in words:
        opposite = ("-" if word[0] == "+" else "+") + word[1:]
        if opposite in words:
            raise TargetError(f"target: got -mattr={word} and {opposite}, expected one of them")
    return list(words)


def check_consistent(words: Sequence[str], tvm: Mapping[str, object]) -> None:
    """TargetError: the target's CPU, as LLVM makes it of all attributes, has not what `words` say; they contradict each other."""
    features = frozenset(codegen.llvm_get_cpu_features(Target(dict(tvm))))
    off = [word[1:] for word in words if word[0] == "-"]
    for word in words:
        name = word[1:]
        if word[0] == "+" and (name not in features or _IMPLIES.get(name) in off):
            causes = [other for other in off if other == _IMPLIES.get(name) or name not in _alone(f"+{name}", f"-{other}", tvm=tvm)]
            raise TargetError(f"target: got -mattr={word} with -{(causes or off or ['?'])[0]}, on which it depends; expected one of them")
        if word[0] == "-" and name in features:
            causes = [other for other in words if other[0] == "+" and name in _alone(word, other, tvm=tvm)]
            raise TargetError(f"target: got -mattr={word} with {(causes or ['?'])[0]}, which depends on it; expected one of them")


def _alone(*words: str, tvm: Mapping[str, object]) -> frozenset[str]:
    """The features of a plain CPU of that kind with these attributes."""
    return frozenset(codegen.llvm_get_cpu_features(Target({"kind": "llvm", "mtriple": tvm["mtriple"], "mattr": list(words)})))


def _check_known(word: str, triple: str) -> None:
    name = word.lstrip("+-")
    if word[0] not in "+-" or not name or word[1:] != name:
        raise TargetError(f"target: got -mattr={word}, expected +feature or -feature")
    arch = triple.partition("-")[0]
    if word[0] == "-" and name in _ALWAYS[arch]:
        raise TargetError(f"target: got -mattr={word}, expected no such thing: kernels need {name}, which every {arch} CPU has under Linux")
    if name in INSTRUCTION_SETS[arch]:
        return
    if name in _alone(f"+{name}", tvm={"mtriple": triple}):
        return  # one that LLVM knows is there after switching it on
    close = difflib.get_close_matches(name, sorted(INSTRUCTION_SETS[arch]), n=3, cutoff=0.3)
    if arch == "aarch64" and name in LLVM_NAMES:
        close = [LLVM_NAMES[name]]
    hint = ", ".join(close) or {"x86_64": "avx2", "aarch64": "dotprod"}[arch]
    raise TargetError(f"target: got unknown feature -mattr={word} for {arch}, expected for example {hint}")
