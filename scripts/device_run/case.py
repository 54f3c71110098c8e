"""Case: one launch of a kernel, what it reads and what it should write. A bundle's manifest is a list of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = 1
MANIFEST = "manifest.json"


class BundleError(Exception):
    """A bundle that cannot be run; the message is one line and says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """What a pointer of a kernel points to.

    file     in the bundle, .npy: the values from the first on, repeated until all are there. Whoever packs takes care that a period shows
             wrong places: no power of two, and what is made of a whole period of the inputs is a whole period of the output
    written  by the kernel: `file` holds what it should write
    """

    file: str
    shape: tuple[int, ...]
    dtype: str
    written: bool

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def read(self, bundle: Path) -> np.ndarray:
        """All the values.   BundleError: the file is not there, or holds another dtype."""
        try:
            period = np.load(bundle / self.file)
        except (OSError, ValueError) as error:
            raise BundleError(f"{bundle / self.file}: {error}; pack the bundle again") from error
        if period.dtype != self.dtype:
            raise BundleError(f"{bundle / self.file} holds {period.dtype}, expected {self.dtype}; pack the bundle again")
        return np.resize(period, self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """kernel        what was scheduled how, for people
    symbol        in the cubin
    grid, block   x, y, z
    shared_bytes  of dynamic shared memory
    arrays        what the kernel's parameters point to, in their order
    layer, bits   what rows are sorted by; None: there are none
    timed         False: only checked
    """

    name: str
    kernel: str
    symbol: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arrays: tuple[Array, ...]
    shared_bytes: int = 0
    layer: str | None = None
    bits: int | None = None
    timed: bool = True

    @property
    def bytes_in(self) -> int:
        return sum(array.nbytes for array in self.arrays if not array.written)

    @property
    def bytes_out(self) -> int:
        return sum(array.nbytes for array in self.arrays if array.written)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """cubins  architecture, sm_90, to the file in the bundle that holds every kernel for it
    facts   about how it was packed: versions
    resources   architecture to symbol to what ptxas says that the kernel takes: registers of a thread and so on
    networks    what makes a NetworkCase each
    """

    cubins: dict[str, str]
    cases: tuple[Case, ...]
    facts: dict[str, Any]
    resources: dict[str, dict[str, dict[str, int]]]
    networks: tuple[dict[str, Any], ...] = ()

    def text(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n"

    def cubin(self, major: int, minor: int) -> str:
        """The file of the newest code that such a GPU runs: of its own major version, and of no newer minor one.   BundleError: none"""
        known = {(int(arch[3:-1]), int(arch[-1])): file for arch, file in self.cubins.items()}
        within = [version for version in known if version[0] == major and version[1] <= minor]
        if not within:
            wanted = f"sm_{major}{minor}"
            raise BundleError(f"the GPU is {wanted}, the bundle has {', '.join(self.cubins)}; pack it with --arch {wanted}")
        return known[max(within)]


def read_manifest(bundle: Path) -> Manifest:
    """BundleError: there is none, or of another schema."""
    path = bundle / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["schema"] != SCHEMA:
            raise BundleError(f"{path} has schema {values['schema']}, expected {SCHEMA}; pack the bundle again")
        return Manifest(
            cubins=values["cubins"], cases=tuple(map(_case, values["cases"])), facts=values["facts"], resources=values["resources"],
            networks=tuple(values["networks"]),
        )  # fmt: skip
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}; expected a folder that scripts/device_bench pack made") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is no manifest ({type(error).__name__}: {error}); pack the bundle again") from error


def _case(values: dict[str, Any]) -> Case:
    arrays = tuple(Array(**{**array, "shape": tuple(array["shape"])}) for array in values["arrays"])
    return Case(**{**values, "arrays": arrays, "grid": tuple(values["grid"]), "block": tuple(values["block"])})
