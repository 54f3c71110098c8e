"""Training from a seed: the same weights every time, interrupted or not; what cannot be done is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scripts.cifar_training import main as command
from scripts.cifar_training.augment import random_windows
from scripts.cifar_training.checkpoint import CheckpointError
from scripts.cifar_training.recipe import RECIPES, Recipe
from scripts.cifar_training.train import accuracy, train
from scripts.models.preprocessing import Preprocessing
from scripts.models.registry import NETWORKS
from scripts.models.stored_weights import read_weights, weights_path, write_weights
from tests.scripts.cifar10_files import random_records, write_cifar10

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Recipe(epochs=4, small_epochs=2, small_side=6, jut=1, batch=8, peak_rate=0.1, clip_norm=1.0)
PREPROCESSING = Preprocessing(crop=8, mean=(128.0,) * 3, deviation=(64.0,) * 3)


class Interrupted(Exception):
    pass


def tiny() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )


def task() -> tuple[np.ndarray, np.ndarray]:
    """Bright and dark images: uint8 (84, 3, 8, 8); 84 is no multiple of the batch."""
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, 84)
    return (generator.integers(0, 128, (84, 3, 8, 8)) + 100 * labels[:, None, None, None]).astype(np.uint8), labels


def trained(path: Path, recipe: Recipe = RECIPE, stop_after: int | None = None) -> tuple[nn.Module, list[int]]:
    """The network, and the epochs that were reported."""
    module, reported = tiny(), []

    def report(done: int, loss: float) -> None:
        assert np.isfinite(loss)
        reported.append(done)
        if done == stop_after:
            raise Interrupted

    train(module, recipe, *task(), PREPROCESSING, path, report)
    return module, reported


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns_and_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first, reported = trained(tmp_path / "a.pt")
    torch.manual_seed(2)
    second, _ = trained(tmp_path / "b.pt")
    other, _ = trained(tmp_path / "c.pt", replace(RECIPE, seed=1))
    assert reported == [1, 2, 3, 4] and not first.training
    assert equal(first, second) and not equal(first, other)
    images, labels = task()
    assert accuracy(first, PREPROCESSING.normalized(images), labels, batch=50) > 0.9


@pytest.mark.parametrize("epoch", [1, 3])
def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path, epoch: int) -> None:
    whole, _ = trained(tmp_path / "whole.pt")
    with pytest.raises(Interrupted):
        trained(tmp_path / "parts.pt", stop_after=epoch)
    parts, reported = trained(tmp_path / "parts.pt")
    assert reported == list(range(epoch + 1, 5))
    assert equal(whole, parts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.pt", "whole.pt"]
    again, reported = trained(tmp_path / "whole.pt")
    assert reported == [] and equal(whole, again) and not again.training


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with pytest.raises(Interrupted):
        trained(path, stop_after=1)
    with pytest.raises(CheckpointError, match="made with seed 0, expected 1; name another --work-dir"):
        trained(path, replace(RECIPE, seed=1))
    with pytest.raises(CheckpointError, match="of another network"):
        train(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), RECIPE, *task(), PREPROCESSING, path, lambda *_: None)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="is damaged"):
        trained(path)


def test_windows_are_cut_from_the_image_and_reflected_at_its_edges() -> None:
    # the value of a pixel tells where it is
    image = (torch.arange(8)[:, None] * 16 + torch.arange(8)).to(torch.uint8)[None, :, :, None].expand(400, 8, 8, 3).contiguous()
    windows = random_windows(image, 6, 0, torch.Generator().manual_seed(0))
    assert windows.shape == (400, 3, 6, 6) and windows.is_contiguous(memory_format=torch.channels_last)
    steps = windows[:, 0, :, 1:].int() - windows[:, 0, :, :-1].int()
    mirrored = (steps == -1).flatten(1).all(1)
    assert (mirrored | (steps == 1).flatten(1).all(1)).all() and 150 < mirrored.sum() < 250
    assert ((windows[:, 0, 1:, 0].int() - windows[:, 0, :-1, 0].int()) == 16).all()
    assert set((windows[:, 0, 0, 0] // 16).tolist()) == {0, 1, 2}
    rows = random_windows(image, 8, 1, torch.Generator().manual_seed(0))[:, 0, :, 0] // 16
    assert set(map(tuple, rows.tolist())) == {(1, 0, 1, 2, 3, 4, 5, 6), tuple(range(8)), (1, 2, 3, 4, 5, 6, 7, 6)}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_rate_rises_and_falls_once(recipe: Recipe) -> None:
    rates = np.array([recipe.rate(done) for done in np.linspace(0, 1, 101)])
    assert rates[0] == 0 and rates[-1] == pytest.approx(0, abs=1e-9) and rates.max() == pytest.approx(recipe.peak_rate)
    assert (np.diff(np.sign(np.diff(rates))) != 0).sum() == 1
    assert recipe.window(0, 32) == (24, 0) and recipe.window(recipe.epochs - 1, 32) == (32, recipe.jut)


@pytest.mark.parametrize("name", RECIPES)
def test_the_command_stores_a_network_that_the_registry_loads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, count in (("train", 16), ("test", 5)):
        write_cifar10(tmp_path / "cache", random_records(count), split)
    monkeypatch.setitem(command.RECIPES, name, replace(RECIPES[name], batch=8))
    monkeypatch.setattr("scripts.models.stored_weights.FOLDER", tmp_path / "data")
    threads = torch.get_num_threads()
    words = [name, "--epochs", "2", "--seed", "3", "--cache", str(tmp_path / "cache"), "--work-dir", str(tmp_path / "work" / "here")]
    try:
        assert command.main(words) == 0
        stored = weights_path(name).read_bytes()
        assert command.main([*words, "--output", str(tmp_path / "again.npz")]) == 0  # from the checkpoint
    finally:
        torch.set_num_threads(threads)
    assert (tmp_path / "again.npz").read_bytes() == stored
    _, facts = read_weights(name)
    assert facts["command"] == f"scripts/train_cifar {name} --seed 3 --epochs 2 --threads 1"
    assert (facts["seed"], facts["epochs"], facts["test_images"]) == (3, 2, 5) and 0 <= facts["test_accuracy"] <= 1


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["resnet18-cifar"], 2, "choose from"),
        (["vgg-cifar", "--epochs", "0"], 2, "--epochs is 0, expected at least 1"),
        (["vgg-cifar", "--threads", "0"], 2, "--threads is 0, expected at least 1"),
        (["vgg-cifar", "--seed", "-1"], 2, "--seed is -1, expected at least 0"),
        (["vgg-cifar", "--cache", "nowhere"], 1, "run: scripts/fetch_models cifar10"),
        (["vgg-cifar", "--output", "."], 1, "is a directory"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(
    words: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        got = command.main(words)
    except SystemExit as error:  # argparse's
        got = error.code
    assert got == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "build").exists()


def test_the_script_runs_the_command_from_anywhere(tmp_path: Path) -> None:
    words = [sys.executable, ROOT / "scripts" / "train_cifar", "vgg-cifar", "--cache", "nowhere"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_weights_that_are_missing_or_damaged_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scripts.models.fetch import FetchError

    monkeypatch.setattr("scripts.models.stored_weights.FOLDER", tmp_path)
    with pytest.raises(FetchError, match="does not exist; run: scripts/train_cifar vgg-cifar"):
        read_weights("vgg-cifar")
    write_weights(weights_path("vgg-cifar"), tiny(), {})
    whole = weights_path("vgg-cifar").read_bytes()
    for damaged in (whole[:200], b"", b"not a zip", whole.replace(b"facts", b"stcaf")):
        weights_path("vgg-cifar").write_bytes(damaged)
        with pytest.raises(FetchError, match="is damaged"):
            read_weights("vgg-cifar")


def test_every_trained_network_is_registered() -> None:
    assert set(RECIPES) == set(command.MODULES) <= set(NETWORKS)
