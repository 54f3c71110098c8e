"""scripts/accuracy: ONNX Runtime and NNCF quantize a tiny network from our calibration set, and answer as FP32 does."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scripts.accuracy import rival_nncf, rival_onnxruntime
from scripts.accuracy.rival_nncf import nncf_int8
from scripts.accuracy.rival_onnxruntime import onnxruntime_int8
from scripts.peers.build import PeerError
from tvm_rsq.errors import CalibrationError

_RNG = np.random.default_rng(0)
# a tint of its own for each, which the pooling at the end keeps apart
IMAGES = (_RNG.standard_normal((18, 3, 16, 16)) + _RNG.uniform(-3, 3, (18, 3, 1, 1))).astype(np.float32)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    ).eval()  # fmt: skip


def needs(*packages: str) -> None:
    """Skips the test where a package is missing: scripts/test installs none of the peers."""
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        pytest.skip(f"{' and '.join(missing)} not installed; run: pip install -c constraints.txt -e .[peers]")


def check(run, module: nn.Module, within: float) -> np.ndarray:
    """`run` is close to the module, not equal to it, and one sample's answer is the same whatever is with it."""
    with torch.inference_mode():
        expected = module(torch.from_numpy(IMAGES)).numpy()
    found = run(IMAGES)
    assert found.shape == (18, 10) and found.dtype == np.float32
    assert 0 < np.linalg.norm(found - expected) < within * np.linalg.norm(expected - expected.mean(0))
    assert (run(IMAGES[7:9]) == found[7:9]).all()
    return found


@pytest.mark.parametrize(("method", "per_channel"), [("minmax", True), ("minmax", False), ("percentile", True), ("entropy", True)])
def test_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, per_channel: bool) -> None:
    needs("onnxruntime")
    module = network()
    # 18 samples are two turns of the histograms
    found = check(onnxruntime_int8(module, IMAGES, tmp_path, method=method, per_channel=per_channel), module, within=0.1)
    monkeypatch.setattr(rival_onnxruntime, "_quantize", None)  # it is kept
    assert (onnxruntime_int8(module, IMAGES, tmp_path, method=method, per_channel=per_channel)(IMAGES) == found).all()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("preset", ["performance", "mixed"])
def test_nncf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    needs("nncf", "openvino")
    module = network()
    # its ranges are the mean of the samples' extremes, which clips samples as different as these
    found = check(nncf_int8(module, IMAGES, tmp_path, preset=preset), module, within=0.3)
    monkeypatch.setattr(rival_nncf, "_quantize", None)
    assert (nncf_int8(module, IMAGES, tmp_path, preset=preset)(IMAGES) == found).all()
    assert len(list(tmp_path.iterdir())) == 2


def test_another_network_or_set_in_the_same_folder_is_another_file(tmp_path: Path) -> None:
    needs("onnxruntime")
    made = [onnxruntime_int8(network(seed), scale * IMAGES, tmp_path)(IMAGES) for seed, scale in ((0, 1), (1, 1), (0, 0.5))]
    assert len({array.tobytes() for array in made}) == 3


def test_wrong_choices_are_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"^method is 'mse', expected one of minmax, percentile, entropy$"):
        onnxruntime_int8(network(), IMAGES, tmp_path, method="mse")
    with pytest.raises(PeerError, match=r"^preset is 'best', expected one of performance, mixed$"):
        nncf_int8(network(), IMAGES, tmp_path, preset="best")


def test_missing_packages_are_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PeerError, match=r"^onnxruntime not installed; run: .*\[peers\]"):
        onnxruntime_int8(network(), IMAGES, tmp_path)
    with pytest.raises(PeerError, match=r"^nncf and openvino not installed; run: .*\[peers\]"):
        nncf_int8(network(), IMAGES, tmp_path)


def test_a_set_that_is_none_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    needs("onnxruntime", "nncf", "openvino")
    for rival in (onnxruntime_int8, nncf_int8):
        with pytest.raises(CalibrationError, match="NaN"):
            rival(network(), np.full((2, 3, 16, 16), np.nan, np.float32), tmp_path)
    assert list(tmp_path.iterdir()) == []
