"""What a kept file was made from, as a short text for its name: anything else makes another file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from scripts.models.network import Network
from scripts.peers.machine import machine_facts


def network_digest(network: Network) -> str:
    """Of a torch module's layers and weights, or of a file's contents."""
    if not isinstance(network.model, torch.nn.Module):
        return hashlib.sha256(network.model.read_bytes()).hexdigest()
    digest = hashlib.sha256(repr(network.model).encode())
    for name, value in network.model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def array_digest(array: np.ndarray) -> str:
    """Of its type, shape and contents."""
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def version_digest(packages: Sequence[str]) -> str:
    """Of the versions of installed packages."""
    return hashlib.sha256(repr(machine_facts(packages)["versions"]).encode()).hexdigest()


def short(*digests: str) -> str:
    """Twelve characters that stand for all of them."""
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:12]
