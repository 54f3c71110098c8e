"""Subject: a network with the images that it is judged by, and real ones for calibration that are none of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import tvm_rsq
from scripts.accuracy.row import Evaluated
from scripts.models.cifar10 import load_cifar10
from scripts.models.labelled_folder import load_labelled_folder
from scripts.models.network import Network
from scripts.models.photos import load_photos, load_photos50
from scripts.models.preprocessing import Preprocessing
from scripts.models.registry import load
from scripts.peers.file_digest import network_digest, short
from tvm_rsq.fidelity import in_batches

_CIFAR_SIDE, _CIFAR_REAL = 32, 64
_UNLABELLED = ("pplcnet-orientation", "resnet18-random")  # classes that no labels are of
_BATCH = 50


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """inputs: float32 (N, C, H, W), labels: int64 (N,) or None, reference: (N, classes) of FP32 on them"""

    name: str
    network: Network
    evaluated: Evaluated
    inputs: np.ndarray
    labels: np.ndarray | None
    reference: np.ndarray

    def real(self) -> np.ndarray:
        """Real images for calibration, of another set than `inputs`.   FetchError: they are not in the cache."""
        if _is_cifar(self.network):
            return self.network.preprocessing.normalized(load_cifar10("train")[0][:_CIFAR_REAL])
        images = load_photos50()[0]
        return _preprocessing(self.network, images)(images)


@functools.lru_cache(maxsize=1)
def subject(name: str, photos: Path | None, samples: int | None) -> Subject:
    """photos: a folder of labelled photos, for networks that take such; None: the twenty of scripts/fetch_models
    samples: how many images, from the first; None or more than there are: all
    FetchError, LabelledFolderError: what is needed is not there."""
    network, evaluated = load(name), evaluated_on(name, photos, samples)
    images, labels = _images(network, photos)
    images = images[: evaluated.samples]
    inputs = network.preprocessing.normalized(images) if isinstance(images, np.ndarray) else _preprocessing(network, images)(images)
    return Subject(
        name=name, network=network, evaluated=evaluated, inputs=inputs,
        labels=None if name in _UNLABELLED else labels[: evaluated.samples], reference=_fp32(network, inputs),
    )  # fmt: skip


@functools.cache
def evaluated_on(name: str, photos: Path | None, samples: int | None) -> Evaluated:
    """What `subject` of the same arguments is evaluated on, without running anything."""
    network = load(name)
    count = len(_images(network, photos)[1])
    labelled = "CIFAR-10 test" if _is_cifar(network) else "photos" if photos is None else photos.name
    return Evaluated(labelled=labelled, samples=min(samples or count, count), weights=short(network_digest(network)))


def _is_cifar(network: Network) -> bool:
    return network.preprocessing.crop == _CIFAR_SIDE


def _images(network: Network, photos: Path | None) -> tuple[np.ndarray | list[Image.Image], np.ndarray]:
    return _cifar_test() if _is_cifar(network) else _photos(photos)


@functools.cache
def _cifar_test() -> tuple[np.ndarray, np.ndarray]:
    return load_cifar10("test")


@functools.cache
def _photos(folder: Path | None) -> tuple[list[Image.Image], np.ndarray]:
    return load_photos() if folder is None else load_labelled_folder(folder)


def _preprocessing(network: Network, images: list[Image.Image]) -> Preprocessing:
    """Squares were cut from photos already."""
    return network.preprocessing.uncropped if all(image.width == image.height for image in images) else network.preprocessing


def _fp32(network: Network, inputs: np.ndarray) -> np.ndarray:
    if not isinstance(network.model, torch.nn.Module):
        return in_batches(tvm_rsq.build_float(network.model, batch=1).run, (inputs,), 1)
    with torch.inference_mode():
        return in_batches(lambda x: network.model(torch.from_numpy(x)).numpy(), (inputs,), _BATCH)
