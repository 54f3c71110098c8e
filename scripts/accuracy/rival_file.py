"""What a rival's files are called: by what they were made from, so that a folder can serve all networks and runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from scripts.models.network import Network
from scripts.models.preprocessing import Preprocessing
from scripts.peers.file_digest import array_digest, network_digest, short, version_digest


def rival_path(folder: Path, kind: str, module: torch.nn.Module, *facts: object, versions: Sequence[str], suffix: str) -> Path:
    """folder/<kind>-<digest><suffix>, the folder made.

    facts     what else the file was made from: arrays by their contents, the rest by its repr
    versions  packages whose version matters
    """
    folder.mkdir(parents=True, exist_ok=True)
    digests = [array_digest(fact) if isinstance(fact, np.ndarray) else repr(fact) for fact in facts]
    network = Network(module, (), Preprocessing(crop=1))
    return folder / f"{kind}-{short(network_digest(network), version_digest(versions), *digests)}{suffix}"
