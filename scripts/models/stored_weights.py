"""Weights of the networks that are trained here: one .npz in the checkout, arrays only, read without pickle."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from scripts.models.fetch import FetchError
from tvm_rsq.atomic_write import atomic_write

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "data"
FACTS = "facts"  # JSON text: how the weights were made
COUNTER = "num_batches_tracked"  # of a BN; it says nothing about the trained network


def weights_path(name: str) -> Path:
    """Where the weights of the network `name` are kept."""
    return FOLDER / f"{name}.npz"


def write_weights(path: Path, module: nn.Module, facts: Mapping[str, object]) -> None:
    """Every float32 weight and BN statistic of `module` under its name, and `facts` as JSON. The same weights give the same bytes."""
    state = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith(COUNTER)}
    arrays = {name: np.ascontiguousarray(tensor.detach().numpy()) for name, tensor in state.items()}
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(file, **{FACTS: np.array(json.dumps(dict(facts)))}, **arrays)


def read_weights(name: str) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """(state dict of the network `name`, the facts). FetchError: no such file, or a damaged one."""
    path = weights_path(name)
    try:
        with np.load(path, allow_pickle=False) as file:
            facts = json.loads(str(file[FACTS]))
            state = {entry: torch.from_numpy(file[entry]) for entry in file.files if entry != FACTS}
    except FileNotFoundError as error:
        raise FetchError(f"{path} does not exist; run: scripts/train_cifar {name}") from error
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise FetchError(f"{path} is damaged ({error}); check it out again, or run: scripts/train_cifar {name}") from error
    counters = {entry.replace("running_mean", COUNTER): torch.tensor(0) for entry in state if entry.endswith("running_mean")}
    return state | counters, facts
