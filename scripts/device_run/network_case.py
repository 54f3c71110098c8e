"""NetworkCase: one compiled network of a bundle, its input and what it should answer."""

from __future__ import annotations

import lzma
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.device_run.case import BundleError

SAMPLES = 4  # inputs that differ; a larger batch repeats them


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCase:
    """network, batch, build  what it is; build: "hybrid", "per-channel" or "fp32"
    library   in the bundle: the shared library, xz
    arch      that its kernels are compiled for
    shape     of the input, float32, drawn from a normal distribution by `seed`
    answers   in the bundle, .npy: the outputs for the first SAMPLES inputs, of the same plan on the CPU that packed
    exact     whether they are to be equal in every bit
    model     module and class, of scripts/models, that torch can make the architecture of; None: there is none
    """

    network: str
    batch: int
    build: str
    library: str
    arch: str
    shape: tuple[int, ...]
    seed: int
    answers: str
    exact: bool
    model: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        return f"{self.network} batch {self.batch} {self.build}"

    def inputs(self) -> np.ndarray:
        """float32 (batch, ...)"""
        return np.resize(samples(self.shape, self.seed), self.shape)

    def expected(self, bundle: Path) -> np.ndarray:
        """BundleError: the file is not there or broken"""
        try:
            answers = np.load(bundle / self.answers)
        except (OSError, ValueError) as error:
            raise BundleError(f"{bundle / self.answers}: {error}; pack the bundle again") from error
        return np.resize(answers, (self.batch, *answers.shape[1:]))

    def unpacked(self, bundle: Path, folder: Path) -> Path:
        """The shared library, in `folder`.   BundleError: as `expected`"""
        path = folder / Path(self.library).stem
        try:
            path.write_bytes(lzma.decompress((bundle / self.library).read_bytes()))
        except (OSError, lzma.LZMAError) as error:
            raise BundleError(f"{bundle / self.library}: {error}; pack the bundle again") from error
        return path


def samples(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """float32 (at most SAMPLES, ...)"""
    return np.random.default_rng(seed).standard_normal((min(shape[0], SAMPLES), *shape[1:])).astype(np.float32)
