"""Running kernels under callgrind."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tvm_ffi import libinfo

from tvm_rsq.targets.spec import TargetSpec, host_supports

_RUNNER = Path(__file__).with_name("runner.c")
_COMPILERS = ("cc", "gcc", "clang")
# Of what vector code is made of: valgrind ends at AVX2, FMA and BMI.
_UNKNOWN = ("avx512", "avxvnni", "avxifma", "amx", "gfni")


class CountError(Exception):
    """Instructions cannot be counted; the message is one line and says what to do."""


def check_machine(spec: TargetSpec) -> None:
    """CountError: valgrind or a C compiler is missing, or valgrind or this machine cannot run the target's code."""
    if shutil.which("valgrind") is None:
        raise CountError("valgrind is not installed; run: apt install valgrind, or count loops in the assembly with --loops")
    _compiler()
    if unknown := sorted(feature for feature in spec.features if feature.startswith(_UNKNOWN)):
        raise CountError(
            f"valgrind knows no {', '.join(unknown[:4])} of {spec.name}; give --target haswell or an older one, or count loops with --loops"
        )
    if lacking := host_supports(spec):
        raise CountError(f"this machine lacks {', '.join(lacking[:4])} and cannot run {spec.name}; count loops with --loops")


def count_calls(library: Path, calls: str, folder: Path) -> list[int]:
    """Instructions that the code of `library` executes in each of `calls` (see build_library), in order.

    CountError: the runner or valgrind failed.
    """
    runner, out = folder / "runner", folder / "callgrind.out"
    _run([_compiler(), "-O1", *(f"-I{path}" for path in libinfo.include_paths()), "-rdynamic", "-o", str(runner), str(_RUNNER), "-ldl"])
    command = [
        "valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--compress-strings=no", "--compress-pos=no",
        "--toggle-collect=measured", "--dump-after=measured", str(runner), str(library),
    ]  # fmt: skip
    _run(command, calls)
    found = []
    for part in range(1, len(calls.splitlines()) + 1):
        with (folder / f"{out.name}.{part}").open() as lines:
            found.append(self_cost(lines, str(library)))
    return found


def _compiler() -> str:
    for name in _COMPILERS:
        if found := shutil.which(name):
            return found
    raise CountError(f"no C compiler: found none of {', '.join(_COMPILERS)}; run: apt install gcc, or count loops with --loops")


def _run(command: list[str], text: str = "") -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("==")]
        raise CountError(f"{Path(command[0]).name} failed with {done.returncode}: {said[-1] if said else 'no message'}")


def self_cost(lines: Iterable[str], library: str) -> int:
    """Instructions executed by the code of the object whose path is `library`, not by what it called.

    lines  what callgrind wrote, uncompressed (--compress-strings=no --compress-pos=no)

    ValueError: the output counts something else than instructions alone, or nothing at all of `library`.
    """
    inside, called, found = False, False, 0
    for line in lines:
        line = line.strip()
        if line.startswith("events:") and line.split()[1:] != ["Ir"]:
            raise ValueError(f"callgrind counted {line.partition(':')[2].strip()}, expected Ir alone")
        if line.startswith("ob="):
            inside = line[3:] == library
        elif line.startswith("calls="):
            called = True  # the next line is the callee's cost
        elif line[:1].isdigit():
            if inside and not called:
                found += int(line.split()[1])
            called = False
    if not found:
        raise ValueError(f"callgrind saw no instruction of {library}, expected a kernel's call")
    return found
