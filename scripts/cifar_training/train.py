"""Train a classifier of small images from a seed; it can be interrupted and continued without a trace in the weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from scripts.cifar_training import checkpoint
from scripts.cifar_training.augment import random_windows
from scripts.cifar_training.initialise import initialise
from scripts.cifar_training.recipe import Recipe
from scripts.models.preprocessing import Preprocessing

Report = Callable[[int, float], None]


def train(
    module: nn.Module, recipe: Recipe, images: np.ndarray, labels: np.ndarray, preprocessing: Preprocessing, path: Path, report: Report
) -> None:
    """Train `module` in place and leave it in eval mode.

    images  uint8 (N, 3, H, H)      labels  int64 (N,)
    path    the checkpoint, written after every epoch; a run goes on from it
    report  called after every epoch with how many are done and the mean loss in it (nats)

    Every epoch draws from a generator of its own, and so the weights depend on the arguments, the machine and the number of
    threads alone. CheckpointError: see checkpoint.restore. ValueError: fewer images than a batch.
    """
    if len(images) < recipe.batch:
        raise ValueError(f"{len(images)} images, expected at least one batch of {recipe.batch}")
    initialise(module, recipe.seed)
    module.to(memory_format=torch.channels_last)
    optimizer = _optimizer(module, recipe)
    first = checkpoint.restore(path, module, optimizer, recipe)
    pixels, classes = torch.from_numpy(images).permute(0, 2, 3, 1).contiguous(), torch.from_numpy(labels)
    for epoch in range(first, recipe.epochs):
        loss = _epoch(module.train(), optimizer, recipe, epoch, pixels, classes, preprocessing)
        checkpoint.save(path, module, optimizer, epoch + 1, recipe)
        report(epoch + 1, loss)
    module.eval()


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    parameters = list(module.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=recipe.peak_rate, momentum=recipe.momentum, nesterov=True)


def _epoch(
    module: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: int,
    pixels: torch.Tensor, classes: torch.Tensor, preprocessing: Preprocessing,
) -> float:  # fmt: skip
    generator = torch.Generator().manual_seed(1_000_003 * (recipe.seed + 1) + epoch)
    side, jut = recipe.window(epoch, pixels.shape[1])
    mean, deviation = (torch.tensor(value).view(1, 3, 1, 1) for value in (preprocessing.mean, preprocessing.deviation))
    steps = len(pixels) // recipe.batch
    order = torch.randperm(len(pixels), generator=generator)[: steps * recipe.batch].view(steps, recipe.batch)
    total = 0.0
    for step, chosen in enumerate(order):
        x = (random_windows(pixels[chosen], side, jut, generator).float() - mean) / deviation
        loss = nn.functional.cross_entropy(module(x), classes[chosen], label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate((epoch * steps + step + 1) / (recipe.epochs * steps + 1))
        optimizer.step()
        total += loss.item()
    return total / steps


def accuracy(module: nn.Module, inputs: np.ndarray, labels: np.ndarray, batch: int = 250) -> float:
    """The share of `inputs`, float32 (N, 3, H, W), that `module` puts into the class of `labels`: 0..1."""
    with torch.no_grad():
        classes = [module(torch.from_numpy(inputs[i : i + batch])).argmax(1).numpy() for i in range(0, len(inputs), batch)]
    return float((np.concatenate(classes) == labels).mean())
