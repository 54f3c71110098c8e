"""The command line of `scripts/train_cifar`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

import torch
from torch import nn

from scripts.cifar_training.checkpoint import CheckpointError
from scripts.cifar_training.recipe import RECIPES, Recipe
from scripts.cifar_training.train import accuracy, train
from scripts.models.cifar10 import load_cifar10
from scripts.models.fetch import FetchError
from scripts.models.preprocessing import CIFAR10
from scripts.models.stored_weights import weights_path, write_weights
from scripts.output_file import check_writable

MODULES = {"resnet20-cifar": ("resnet20_cifar", "ResNet20Cifar"), "vgg-cifar": ("vgg_cifar", "VggCifar")}
WORK_DIR = Path("build") / "train_cifar"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 done, 1 failed; argparse's own 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for name in ("epochs", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} is {value}, expected at least 1")
    if options.seed < 0:
        parser.error(f"--seed is {options.seed}, expected at least 0")
    try:
        _run(options, chosen_recipe(options.name, options.seed, options.epochs))
    except (CheckpointError, FetchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def chosen_recipe(name: str, seed: int, epochs: int | None) -> Recipe:
    """The recipe of `name` with `seed`; other `epochs` are shared out between small windows and whole ones as the recipe does."""
    recipe = RECIPES[name]
    if epochs is None:
        return replace(recipe, seed=seed)
    return replace(recipe, seed=seed, epochs=epochs, small_epochs=epochs * recipe.small_epochs // recipe.epochs)


def _run(options: argparse.Namespace, recipe: Recipe) -> None:
    output = options.output or weights_path(options.name)
    output.parent.mkdir(parents=True, exist_ok=True)
    check_writable(output)
    images, labels = load_cifar10("train", options.cache)
    test_images, test_labels = load_cifar10("test", options.cache)
    options.work_dir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    module = _module(options.name)
    started = time.process_time()

    def report(done: int, loss: float) -> None:
        spent = time.process_time() - started
        print(f"{options.name}: epoch {done} of {recipe.epochs}, loss {loss:.3f}, {spent:.0f} s of CPU time", file=sys.stderr, flush=True)

    train(module, recipe, images, labels, CIFAR10, options.work_dir / f"{options.name}.pt", report)
    found = accuracy(module, CIFAR10.normalized(test_images), test_labels)
    facts = asdict(recipe) | {
        "test_accuracy": found, "test_images": len(test_labels), "threads": options.threads, "torch": torch.__version__,
        "command": _command(options),
    }  # fmt: skip
    write_weights(output, module, facts)
    print(f"{options.name}: {found:.2%} of {len(test_labels)} test images right; weights in {output}")


def _module(name: str) -> nn.Module:
    file, class_name = MODULES[name]
    return getattr(import_module(f"scripts.models.{file}"), class_name)()


def _command(options: argparse.Namespace) -> str:
    """The command that makes these weights, less what they do not depend on."""
    epochs = "" if options.epochs is None else f" --epochs {options.epochs}"
    return f"scripts/train_cifar {options.name} --seed {options.seed}{epochs} --threads {options.threads}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_cifar", description="Train a small network for CIFAR-10 on the CPU. An interrupted run goes on when it is called again."
    )
    parser.add_argument("name", choices=sorted(RECIPES), help="the network")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights, the order of images and their windows (%(default)s)")
    parser.add_argument("--epochs", type=int, default=None, help="passes over the training images (as the recipe says)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; another number makes slightly other weights (%(default)s)")
    parser.add_argument("--work-dir", type=Path, default=WORK_DIR, help="keeps what an interrupted run goes on from (%(default)s)")
    parser.add_argument("--output", type=Path, default=None, help="the .npz to write (tests/data/NAME.npz)")
    parser.add_argument("--cache", type=Path, default=None, help="where scripts/fetch_models put cifar10 (its default)")
    return parser
