"""A training run between two epochs, in one file, so that it can go on from there."""

from __future__ import annotations

import pickle
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from scripts.cifar_training.recipe import Recipe
from tvm_rsq.atomic_write import atomic_write


class CheckpointError(Exception):
    """A checkpoint that cannot be continued; the message is one line for the user."""


def save(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, epoch: int, recipe: Recipe) -> None:
    """`epoch` epochs are done. The file is there whole or not at all."""
    state = {"epoch": epoch, "origin": _origin(recipe), "module": module.state_dict(), "optimizer": optimizer.state_dict()}
    with atomic_write(path) as partial:
        torch.save(state, partial)


def restore(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe) -> int:
    """Fill `module` and `optimizer` and return how many epochs are done: 0 and nothing changed when there is no file.

    CheckpointError: the file is damaged, or of another recipe, number of threads or network.
    """
    if not path.is_file():
        return 0
    again = "name another --work-dir, or remove it to start anew"
    try:
        held = torch.load(path, weights_only=True)
        epoch, origin, state, momenta = (held[key] for key in ("epoch", "origin", "module", "optimizer"))
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}); {again}") from error
    for key, value in _origin(recipe).items():
        if origin.get(key) != value:
            raise CheckpointError(f"{path} was made with {key} {origin.get(key)}, expected {value}; {again}")
    try:
        module.load_state_dict(state)
        optimizer.load_state_dict(momenta)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} is of another network; {again}") from error
    return epoch


def _origin(recipe: Recipe) -> dict[str, object]:
    """Everything that the weights depend on, but the network and the images."""
    return asdict(recipe) | {"threads": torch.get_num_threads()}
