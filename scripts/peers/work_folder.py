"""The folder in which a benchmark keeps what took long to make, so that an interrupted run goes on where it was."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tvm_rsq
from scripts.models.network import Network
from scripts.peers.build import PeerError
from scripts.peers.file_digest import network_digest, short
from tvm_rsq.artifact import load
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.compiled_module import CompiledModule
from tvm_rsq.progress import ProgressCallback, silent

SOURCES = ("synthesis", "noise", "photos")
_NOISE_SAMPLES = 16


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """<root>/<model>/ with calibration-synthesis-<digest>.npz, our artifacts (.rsq) and the peers' networks (.onnx)."""

    root: Path

    def of(self, model: str) -> Path:
        """The folder of one network, which exists afterwards."""
        folder = self.root / model
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def calibration(self, model: str, network: Network, source: str, photos: np.ndarray | None, progress: ProgressCallback = silent):
        """A CalibrationSet that fits any batch.   source: one of SOURCES; PeerError: "photos", and there are none."""
        if source == "photos":
            if photos is None:
                raise PeerError("--calibration photos, and they are not in the cache; run: scripts/fetch_models photos")
            return CalibrationSet(inputs=(photos,))
        if source == "noise":
            shape = (_NOISE_SAMPLES, *network.example_inputs[0].shape[1:])
            noise = np.random.default_rng(0).standard_normal(shape, np.float32)
            return CalibrationSet(inputs=(noise,), source="gaussian")
        path = self.of(model) / f"calibration-synthesis-{short(network_digest(network))}.npz"
        if not path.exists():
            tvm_rsq.synthesize(network.model, example_inputs=network.example_inputs, progress=progress).save(path)
        made = CalibrationSet.load(path)
        # Without the hash, which covers the batch; the file's name says which network it was made for.
        return CalibrationSet(inputs=made.inputs, source=made.source, seed=made.seed, loss_curve=made.loss_curve, notes=made.notes)

    def artifact(self, model: str, build: str, facts: Sequence[object], make: Callable[[], CompiledModule]) -> CompiledModule:
        """What make() compiles, from the file that an earlier run left if `facts` and the library's own sources are the same."""
        digest = hashlib.sha256(repr((*facts, source_digest())).encode()).hexdigest()[:12]
        path = self.of(model) / f"{build.replace(' ', '-')}-{digest}.rsq"
        if not path.exists():
            make().save(path)
        return load(path, to_run=False)  # it may be for another kind of machine, which says so itself


@functools.cache
def source_digest() -> str:
    """Of every Python file of tvm_rsq, as they were when this was first asked: other code makes other kernels."""
    root = Path(tvm_rsq.__file__).resolve().parents[1]
    return folder_digest(*(root / name for name in ("tvm_rsq", "passes", "targets")), suffix=".py")


def folder_digest(*folders: Path, suffix: str = "") -> str:
    """Of the names and contents of all files that end with `suffix`."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob(f"*{suffix}")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(os.fsencode(path.relative_to(folder)) + b"\0" + path.read_bytes())
    return digest.hexdigest()
