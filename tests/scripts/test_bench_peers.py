"""scripts/bench_peers: figures follow from raw times, answers are checked, and a tiny network goes through. No times are tested."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scripts import turns
from scripts.models.network import Network
from scripts.models.preprocessing import Preprocessing
from scripts.peers import compare_builds, main, ours, peer_builds, work_folder
from scripts.peers.build import Build, PeerError
from scripts.peers.rows import Measured, Row, document, ratio
from scripts.peers.show import rows_table, warnings
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import QuantConfig
from tvm_rsq.report.data import Fidelity
from tvm_rsq.targets.parse import parse_target

KEYS = {
    "model", "batch", "threads", "ours_us", "per_channel_us", "untuned_us", "fp32_us", "peers_us", "ratio_best_peer",
    "ratio_hybrid_per_channel", "ratio_hybrid_fixed_point", "fraction_of_peak", "top1_agreement", "target",
    "ratio_best_peer_fp32", "paired",
}  # fmt: skip


def measured(us: float, agreement: float | None = 1.0, cosine: float = 0.99) -> Measured:
    answer = None if agreement is None else Fidelity(source="photos", samples=20, agreement=agreement, kl=0.0, cosine=cosine)
    return Measured(times_us=(us, us * 1.01, us * 0.99), answer=answer)


def row(**builds: Measured) -> Row:
    named = {name.replace("_int8_", " int8 ").replace("_fp32", " fp32"): found for name, found in builds.items()}
    return Row(model="net", batch=8, threads=2, target="llvm", macs=100_000_000, peak_gmacs=100.0, builds=named)


FULL = row(
    hybrid=measured(1000.0, 0.95), per_channel=measured(1250.0), fixed_point=measured(1600.0), fp32=measured(4000.0, None),
    onnxruntime_fp32=measured(3000.0, None), openvino_fp32=measured(3200.0, None),
    onnxruntime_int8_plain=measured(1400.0, 0.5), onnxruntime_int8_prepared=measured(2000.0), openvino_int8_plain=measured(1800.0),
)  # fmt: skip


def test_ratios_follow_from_medians() -> None:
    found = FULL.record()
    assert set(found) == KEYS
    assert found["ours_us"] == found["untuned_us"] == 1000 and found["ratio_hybrid_per_channel"] == 0.8
    assert found["ratio_hybrid_fixed_point"] == 0.625 and found["top1_agreement"] == 0.95
    assert found["fraction_of_peak"] == 0.5  # 100 GMAC/s on two cores of 100
    assert found["fp32_us"] == {"ours": 4000, "onnxruntime": 3000, "openvino": 3200}
    assert found["ratio_best_peer_fp32"] == pytest.approx(1 / 3)
    assert list(found["paired"]) == ["best_peer", "best_peer_fp32", "per_channel", "fixed_point"]
    assert list(found["paired"].values()) == pytest.approx([1000 / 1800, 1 / 3, 0.8, 0.625])
    assert ratio(1.0, None) is None and ratio(None, 1.0) is None


def test_a_wrong_answer_has_no_latency_while_there_is_a_right_one() -> None:
    assert FULL.record()["peers_us"] == {"onnxruntime": 2000, "openvino": 1800}  # not the 1400 of the wrong one
    assert FULL.record()["ratio_best_peer"] == pytest.approx(1000 / 1800) and FULL.wrong == ("onnxruntime int8 plain",)
    only = row(hybrid=measured(1000.0), onnxruntime_int8_plain=measured(1400.0, 0.5), onnxruntime_int8_prepared=measured(2000.0, 1.0, 0.5))
    assert only.record()["peers_us"] == {"onnxruntime": 1400, "openvino": None}
    assert any("onnxruntime int8 plain" in line and "wrong answer" in line for line in warnings([only]))


def test_a_wrong_build_of_ours_has_no_ratio() -> None:
    wrong = row(hybrid=measured(1000.0, 0.0, 0.2), per_channel=measured(1250.0), openvino_int8_plain=measured(1800.0)).record()
    assert [wrong[key] for key in wrong if key.startswith("ratio") or key == "fraction_of_peak"] == [None] * 5
    assert set(wrong["paired"].values()) == {None}
    assert wrong["ours_us"] == 1000
    baseline = row(hybrid=measured(1000.0), per_channel=measured(1250.0, 0.0), openvino_int8_plain=measured(2000.0)).record()
    assert (baseline["ratio_hybrid_per_channel"], baseline["ratio_best_peer"]) == (None, 0.5)


def test_peers_that_were_not_run_are_null_and_the_document_is_json() -> None:
    made = document({"cpu": "x"}, 100.0, [row(hybrid=measured(1000.0, math.nan), fp32=measured(4000.0, None))])
    read = json.loads(json.dumps(made, allow_nan=False))
    assert read["rows"][0]["top1_agreement"] is None
    assert set(read) == {"schema", "machine", "peak_gmacs", "rows", "raw"} and read["schema"] == 1
    assert read["rows"][0]["peers_us"] == {"onnxruntime": None, "openvino": None} and read["rows"][0]["ratio_best_peer"] is None
    assert read["raw"][0]["builds"]["hybrid"]["times_us"] == [1000, 1010, 990]
    assert read["raw"][0]["builds"]["hybrid"]["answer"] == {
        "samples": 20, "source": "photos", "cosine": 0.99, "top1_agreement": None, "kl": 0.0
    }  # fmt: skip


def test_distrust_is_said() -> None:
    fast = row(hybrid=Measured(times_us=(100.0, 900.0, 100.0)))
    assert any("vary by more than 10 %" in line for line in warnings([fast]))
    assert any("effective speed" in line for line in warnings([fast]))
    assert warnings([row(hybrid=measured(1000.0))]) == [] and rows_table([FULL]).row_count == 2


def test_turns_hold_every_build_in_changing_order_and_wait_for_quiet() -> None:
    seen: list[str] = []
    builds = {name: (lambda name=name: seen.append(name)) for name in "abc"}
    times = turns.in_turns(builds, 47, quiet=lambda: seen.append("-"))
    assert {name: len(found) for name, found in times.items()} == {"a": 50, "b": 50, "c": 50}
    calls = "".join(seen).split("-")[1:]
    assert all(call == call[0] * 7 for call in calls)
    orders = ["".join(call[0] for call in calls[i : i + 3]) for i in range(0, 30, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    sequence = "".join(orders)
    before = {name: {sequence[i - 1] for i in range(1, 30) if sequence[i] == name} - {name} for name in "abc"}
    assert all(len(found) == 2 for found in before.values()), "each has followed every other one"
    assert turns.bound_in_turns({"a": lambda: 2.0}, 3) == {"a": (2.0, 2.0, 2.0)}


def test_a_ratio_within_turns_is_not_fooled_by_a_slow_minute() -> None:
    slow = [2.0] * 15 + [1.0] * 10  # the machine gets twice as fast after three of five turns
    assert turns.paired_ratio([0.5 * time for time in slow], slow) == 0.5
    assert turns.paired_ratio([4.0] * 5 + [1.0] * 10, [2.0] * 5 + [4.0] * 10) == 0.25 and turns.paired_ratio([], [1.0]) is None


def test_answers_are_compared_with_the_maker_s_own_fp32() -> None:
    def build(name: str, offset: float) -> Build:
        return Build(
            name=name, run=lambda x: np.eye(4, dtype=np.float32)[: len(x)] + offset * np.eye(4)[::-1][: len(x)], bound_us=lambda x: 0.0
        )

    names = {
        "hybrid": 0.0,
        "fp32": 0.0,
        "openvino int8 plain": 2.0,
        "openvino fp32": 2.0,
        "onnxruntime int8 plain": 2.0,
        "onnxruntime fp32": 0.0,
    }
    found = compare_builds.check_answers({name: build(name, offset) for name, offset in names.items()}, np.zeros((4, 1)), "noise", 4)
    agreement = {name: answer.agreement for name, answer in found.items()}
    assert agreement == {"hybrid": 1.0, "openvino int8 plain": 1.0, "onnxruntime int8 plain": 0.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "1,zero"], "expected numbers of at least 1"), (["--models", "resnet51"], "choose from"),
        (["--peers", "tflite"], "choose from onnxruntime, openvino"), (["--repeat", "0"], "expected at least 1"),
        (["--peers", "openvino", "--target", "llvm -mcpu=haswell"], "leave --peers or --target out"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_help_and_list(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(["--help"])
    assert end.value.code == 0 and "--tuning-dir" in capsys.readouterr().out
    assert main.main(["--list"]) == 0 and "openvino" in capsys.readouterr().out


def test_a_missing_peer_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main.main(["--models", "resnet18-random"]) == 1
    error = capsys.readouterr().err
    assert "onnxruntime and openvino not installed; run: " in error and "[peers]" in error and len(error.splitlines()) == 1
    assert peer_builds.missing_packages([]) == []


def test_calibration_without_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="fetch_models photos"):
        work_folder.WorkFolder(tmp_path).calibration("net", tiny(), "photos", None)


def tiny() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    return Network(module.eval().requires_grad_(False), (torch.randn(1, 3, 8, 8),), Preprocessing(crop=8))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> compare_builds.Settings:
    monkeypatch.setenv("TVM_NUM_THREADS", "1")
    monkeypatch.setattr(compare_builds, "photos_for", lambda network: None)
    plain = {"hybrid": QuantConfig(levers="none"), "per_channel": QuantConfig(scheme="per_channel", levers="none")}
    monkeypatch.setattr(ours, "CONFIGS", plain)
    return compare_builds.Settings(
        spec=parse_target("llvm"), peak_gmacs=100.0, peers=(), calibration="noise", folder=work_folder.WorkFolder(tmp_path),
        repeat=1, bound_repeat=1,
    )  # fmt: skip


def test_a_tiny_network_goes_through_and_is_not_built_twice(settings: compare_builds.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    found = compare_builds.measure_row("tiny", tiny(), 2, 1, settings)
    assert set(found.builds) == {"hybrid", "per_channel", "fp32"} and found.macs == 2 * (6 * 6 * 8 * 27 + 40)
    assert found.builds["hybrid"].answer.cosine > 0.99 and found.record()["peers_us"]["openvino"] is None
    monkeypatch.setattr(ours.tvm_rsq, "quantize", lambda *a, **k: pytest.fail("quantized again"))
    monkeypatch.setattr(ours.tvm_rsq, "build_float", lambda *a, **k: pytest.fail("built again"))
    assert compare_builds.measure_row("tiny", tiny(), 2, 1, settings).macs == found.macs


@pytest.mark.parametrize("peer", ["onnxruntime", "openvino"])
def test_a_tiny_network_runs_on_a_peer(peer: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the peers are quantized by onnxruntime, which is not installed")
    pytest.importorskip(peer)
    network, samples = tiny(), np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    builds = peer_builds.peer_builds(
        "tiny", network, batch=2, threads=1, samples=samples, source="noise", peers=[peer], folder=work_folder.WorkFolder(tmp_path)
    )
    assert f"{peer} fp32" in builds and f"{peer} int8 plain" in builds and f"{peer} int8 7-bit" in builds
    expected = network.model(torch.from_numpy(samples[:2])).numpy()
    np.testing.assert_allclose(builds[f"{peer} fp32"].run(samples[:2]), expected, atol=1e-4)
    answers = compare_builds.check_answers(builds, samples, "noise", 2)
    assert answers and all(answer.cosine > 0.99 for answer in answers.values())
    assert all(build.bound_us(samples[:2]) > 0 for build in builds.values())


def test_a_calibration_set_fits_every_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = CalibrationSet(inputs=(np.ones((4, 3, 8, 8), np.float32),), source="retro-synthesis", network_hash="of batch 1")
    monkeypatch.setattr(work_folder.tvm_rsq, "synthesize", lambda *a, **k: made, raising=False)
    folder = work_folder.WorkFolder(tmp_path)
    assert folder.calibration("net", tiny(), "synthesis", None).network_hash == ""
    monkeypatch.setattr(work_folder.tvm_rsq, "synthesize", lambda *a, **k: pytest.fail("synthesised again"), raising=False)
    assert len(folder.calibration("net", tiny(), "synthesis", None)) == 4
