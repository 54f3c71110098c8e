"""Corrupted .rsq files: refused in one line, or answering as the sound one does; no code of them runs before its checksum."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.survival.corrupt_artifact import KINDS, corrupt
from scripts.survival.isolate import Wrong
from tvm_rsq.artifact import load
from tvm_rsq.compiled_module import CompiledModule

ABOUT = (
    "A sound artifact is damaged: flipped bits, truncations, pieces missing; archives that unpack to gigabytes, lie about sizes, hold a "
    "name twice or one that climbs out; parts changed under their old checksums, among them a library that would leave a file "
    "behind when it is loaded; manifests, plans and reports changed with every checksum put right. It survives where it is refused in one "
    "line by an error of ours, or runs and answers as before, and the file is never there. In a process of its own, with 30 s and 4 GB."
)
_LARGEST = 10**7  # elements of an input that is tried
_SOURCE = """
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void ran(void) { close(open("%s", O_CREAT | O_WRONLY, 0600)); }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """sound: the file; inputs and answer: of one run; evil: a library that makes `trace` when it is loaded"""

    sound: bytes
    inputs: tuple[np.ndarray, ...]
    answer: np.ndarray
    evil: bytes
    trace: Path


def subject(path: Path, inputs: tuple[np.ndarray, ...], answer: np.ndarray, folder: Path) -> Subject:
    """Of an artifact. CalledProcessError: no C compiler."""
    trace, source, library = folder / "ran", folder / "evil.c", folder / "evil.so"
    source.write_text(_SOURCE % trace)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return Subject(sound=path.read_bytes(), inputs=inputs, answer=answer, evil=library.read_bytes(), trace=trace)


def cases(of: Subject, count: int, seed: int, folder: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """(what it is, the action that says how it went or raises) of every case."""
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        yield f"{number} {kind}", functools.partial(_attempt, of, kind, np.random.default_rng([seed, number]), folder)


def _attempt(of: Subject, kind: str, rng: np.random.Generator, folder: Path) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / "net.rsq"
    path.write_bytes(corrupt(of.sound, kind, rng, of.evil))
    try:
        return check(path, of)
    finally:
        if of.trace.exists():
            of.trace.unlink()
            raise Wrong("a library ran whose checksum is another's")


def check(path: Path, of: Subject) -> str:
    """Load it and run it.   tvm_rsq.Error: refused. Wrong: an answer is not right."""
    seen = load(path, to_run=False)
    module = load(path)
    if module.inputs != seen.inputs:
        raise Wrong("it is another one when it is to run")
    if [spec.shape for spec in module.inputs] != [array.shape for array in of.inputs]:
        return _other_shape(module)
    if not np.array_equal(module.run(*of.inputs), of.answer):
        raise Wrong("it answers something else")
    return "answers as before"


def _other_shape(module: CompiledModule) -> str:
    """A manifest with right checksums that says other shapes: the library knows better."""
    if sum(float(np.prod(spec.shape, dtype=np.float64)) for spec in module.inputs) > _LARGEST:
        return "too large to try"
    module.run(*(np.zeros(spec.shape, spec.dtype) for spec in module.inputs))
    raise Wrong("it runs on other shapes than it was compiled for")
