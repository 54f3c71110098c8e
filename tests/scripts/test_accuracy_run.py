"""scripts/accuracy: rows of a tiny network, from images to the result, kept between runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tvm_rsq
from scripts.accuracy import calibrations
from scripts.accuracy import main as accuracy_main
from scripts.accuracy import main as main_module
from scripts.accuracy import run as run_module
from scripts.accuracy import subject as subject_module
from scripts.accuracy.calibrations import Calibrations
from scripts.accuracy.case import Bits, Case
from scripts.accuracy.jobs import run_all
from scripts.accuracy.main import main
from scripts.accuracy.measure import Settings, measure
from scripts.accuracy.row import FAKE_QUANT, INTEGER_LIBRARY, Row
from scripts.accuracy.subject import evaluated_on, subject
from scripts.models.network import Network
from scripts.models.preprocessing import CIFAR10
from tests.scripts.accuracy_rows import late_division
from tests.trained_network import trained
from tvm_rsq.errors import CalibrationError, ModelError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (30, 3, 32, 32), np.uint8)
W8A8 = Bits(8, 8)
NAME = "cnn-cifar"  # what the tiny network stands for


def tiny(batch_norm: bool = True) -> Network:
    norm = nn.BatchNorm2d(8) if batch_norm else nn.Identity()
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4), norm, nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
    )
    module, _ = trained(layers, 64, 3, 32, 32)
    return Network(module.requires_grad_(False), (torch.zeros(1, 3, 32, 32),), CIFAR10)


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Network]]:
    """The network that is loaded, whatever the name; 30 labelled images for judging, 100 others."""
    loaded = {"it": tiny()}
    labels = np.arange(30) % 10
    more = RNG.integers(0, 256, (100, 3, 32, 32), np.uint8)
    monkeypatch.setattr(subject_module, "load", lambda name: loaded["it"])
    monkeypatch.setattr(subject_module, "load_cifar10", lambda split: (more if split == "train" else PIXELS, labels))
    caches = (subject, evaluated_on, subject_module._cifar_test)
    for cache in caches:
        cache.cache_clear()
    yield loaded
    for cache in caches:
        cache.cache_clear()


def case(method: str, bits: Bits = W8A8, scheme: str = "per_channel", source: str = "real") -> Case:
    return Case(
        network=NAME, weight_bits=bits.weights, activation_bits=bits.activations, method=method, scheme=scheme, source=source, seed=0
    )


def done(tmp_path: Path, method: str, *args: object, **values: object) -> Row:
    return measure(case(method, *args, **values), Settings(work_dir=tmp_path, samples=20))


def test_a_row_of_the_integer_library(tmp_path: Path) -> None:
    found = done(tmp_path, "mse")
    assert found.evaluated_as == INTEGER_LIBRARY and found.evaluated.samples == 20 and found.evaluated.labelled == "CIFAR-10 test"
    assert found.images == 64 and found.synthesis_s == 0 and found.quantization_s > 0 and found.wall_s > found.quantization_s
    assert found.float_layers == 0 and found.peak_bytes > 10**7 and found.threads == torch.get_num_threads()
    answers = np.argmax(subject(NAME, None, 20).reference, 1)
    assert found.top1_fp32 == (answers == np.arange(20) % 10).mean()
    assert found.agreement >= 0.8 and 0 < found.kl < 0.005


def test_bits_and_weights_count(tmp_path: Path) -> None:
    kl = {str(bits): done(tmp_path, "mse", bits).kl for bits in (Bits(4, 8), Bits(4, 4))}
    assert 0.005 < kl["W4A8"] < kl["W4A4"]


def test_codebooks_are_evaluated_by_fake_quantization(tmp_path: Path) -> None:
    per_channel, per_tensor, fine = (
        done(tmp_path, "non-uniform, seed", bits, scheme)
        for bits, scheme in ((Bits(4, 8), "per_channel"), (Bits(4, 8), "per_tensor"), (Bits(6, 8), "per_channel"))
    )
    assert per_channel.evaluated_as == FAKE_QUANT and 0 < fine.kl < per_channel.kl < 0.5 and per_channel.kl != per_tensor.kl


def test_images_are_made_once_and_their_seconds_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(work_dir=tmp_path, samples=5)
    first = settings.calibration(NAME, "gaussian", "instant", 0)
    monkeypatch.setattr(tvm_rsq, "synthesize", lambda *args, **kwargs: int("none may be made"))
    elsewhere = Settings(work_dir=tmp_path / "new", calibrations_from=(tmp_path / "calibrations",), samples=5)
    for other in (settings, elsewhere):
        again = other.calibration(NAME, "gaussian", "instant", 0)
        assert (again.digest, again.seconds, again.peak_bytes) == (first.digest, first.seconds, first.peak_bytes) and first.seconds > 0
    for names in (("gaussian", "instant", 1), ("gaussian", "best", 0), ("uniform", "instant", 0)):
        with pytest.raises(ValueError, match="none may be made"):
            settings.calibration(NAME, *names)
    real = settings.calibration(NAME, "real", "instant", 0)
    assert len(real.samples) == 64 and real.digest != first.digest
    found = measure(case("mse", source="gaussian"), elsewhere)
    assert (found.calibration, found.synthesis_s, found.images) == (first.digest, first.seconds, 16)


def test_images_of_an_older_recipe_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(work_dir=tmp_path, samples=5)
    settings.calibration(NAME, "gaussian", "instant", 0)
    monkeypatch.setitem(calibrations.RECIPES, "gaussian", 2)
    asked = []
    monkeypatch.setattr(tvm_rsq, "synthesize", lambda *args, make=tvm_rsq.synthesize, **kwargs: asked.append(args) or make(*args, **kwargs))
    settings.calibration(NAME, "gaussian", "instant", 0)
    settings.calibration(NAME, "gaussian", "instant", 0)
    assert len(asked) == 1


def test_what_was_cut_short_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(work_dir=tmp_path, samples=5)

    def stopped(*args, make=tvm_rsq.synthesize, **kwargs):
        return make(*args, **kwargs, should_stop=lambda: True)

    monkeypatch.setattr(tvm_rsq, "synthesize", stopped)
    with pytest.raises(KeyboardInterrupt):
        settings.calibration(NAME, "retro-synthesis", "instant", 0)
    assert not list(tmp_path.rglob("*.npz"))


def test_an_interrupted_run_says_where_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(accuracy_main, "rows", interrupted)
    assert accuracy_main.main(["--networks", NAME, "--work-dir", str(tmp_path)]) == 130
    assert capsys.readouterr().err == f"interrupted; rows that were done are kept in {tmp_path} for the next run\n"


def test_images_of_another_network_are_refused(tmp_path: Path, network: dict[str, Network]) -> None:
    kept = Calibrations(folder=tmp_path)
    made = kept.of(subject(NAME, None, 5), "gaussian", "instant", 0)
    subject.cache_clear()
    evaluated_on.cache_clear()
    network["it"] = tiny(batch_norm=False)
    with pytest.raises(CalibrationError, match="was made for other weights"):
        kept.of(subject(NAME, None, 5), "gaussian", "instant", 0)
    (tmp_path / NAME / "gaussian-instant-0.json").unlink()  # put there by hand: nobody knows
    found = kept.of(subject(NAME, None, 5), "gaussian", "instant", 0)
    assert found.digest == made.digest and found.seconds is None


def test_what_does_not_exist_is_a_row_that_says_why(tmp_path: Path, network: dict[str, Network]) -> None:
    network["it"] = tiny(batch_norm=False)
    assert "needs batch norms behind layers" in done(tmp_path, "DFQ").unsupported
    assert done(tmp_path, "NNCF", scheme="per_tensor").unsupported == "NNCF is for per_channel, not per_tensor"
    assert done(tmp_path, "mse weights").unsupported == "mse weights is for 4, 6-bit weights, not 8"


def test_what_is_not_expected_is_raised(tmp_path: Path, network: dict[str, Network]) -> None:
    with torch.no_grad():
        network["it"].model[0].weight.fill_(torch.nan)
    with pytest.raises((ModelError, CalibrationError)):
        done(tmp_path, "mse")


def test_a_second_run_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / "result.json"
    arguments = ["--networks", NAME, "--methods", "mse,DFQ", "--sources", "real", "--samples", "10", "--work-dir", str(tmp_path / "work")]
    assert main([*arguments, "--json", str(result), "--markdown", str(tmp_path / "page.md")]) == 0
    shown = capsys.readouterr()
    assert "1 of 2  cnn-cifar W8A8 mse, per_channel, real, seed 0: top-1" in shown.err
    assert (tmp_path / "page.md").read_text() == shown.out and "### cnn-cifar, W8A8" in shown.out
    first = json.loads(result.read_text())
    assert [row["method"] for row in first["rows"]] == ["mse", "DFQ"] and first["command"].startswith("scripts/reproduce_accuracy --net")
    assert main(["--show", str(result)]) == 0
    assert capsys.readouterr().out == shown.out

    monkeypatch.setattr(run_module, "measure", lambda case, settings: int(case))
    assert main([*arguments, "--json", str(result)]) == 0
    assert json.loads(result.read_text())["rows"] == first["rows"]
    with pytest.raises(TypeError):
        main([*arguments, "--redo"])


def test_a_missing_rival_is_told_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(main_module.importlib.util, "find_spec", lambda name: None)
    assert main(["--networks", NAME, "--methods", "mse,NNCF", "--work-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: nncf and openvino not installed; run: ")


def test_workers_give_the_same_results_and_raise_what_they_raise() -> None:
    for jobs in (1, 2):
        found = []
        with pytest.raises(ZeroDivisionError):
            found.extend(run_all(late_division, [(6, 1), (6, 2), (6, 3), (6, 0)], jobs))
        assert sorted(found) == [2, 3, 6]
