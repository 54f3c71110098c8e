"""What the benchmarking scripts refuse before or instead of measuring, and which kept files they read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scripts.levers.main import main as ablation
from scripts.models.network import Network
from scripts.models.preprocessing import Preprocessing
from scripts.peers.build import Build, PeerError
from scripts.peers.compare_builds import check_fp32
from scripts.peers.file_digest import array_digest, network_digest
from scripts.peers.main import main as bench_peers


def net(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval().requires_grad_(False)
    return Network(module, (torch.ones(1, 3, 2, 2),), Preprocessing(crop=2))


def test_other_weights_and_samples_have_other_files() -> None:
    assert network_digest(net()) == network_digest(net()) != network_digest(net(1))
    assert array_digest(np.zeros(4)) == array_digest(np.zeros(4)) != array_digest(np.zeros((2, 2)))


@pytest.mark.parametrize("name", ["fp32", "onnxruntime fp32"])
def test_an_fp32_build_that_is_not_the_network_is_refused(name: str) -> None:
    network, x = net(), np.random.default_rng(0).standard_normal((3, 3, 2, 2)).astype(np.float32)

    def build(module: nn.Module) -> Build:
        return Build(name=name, run=lambda x: module(torch.from_numpy(x)).numpy(), bound_us=lambda x: 0.0)

    check_fp32({name: build(network.model), "hybrid": build(net(1).model)}, network, x, 2)
    with pytest.raises(PeerError, match="to the torch module, expected over 0.9999"):
        check_fp32({name: build(net(1).model)}, network, x, 2)


@pytest.mark.parametrize(("main", "model"), [(ablation, ["resnet18-random"]), (bench_peers, ["--models", "resnet18-random"])])
def test_a_missing_folder_or_a_bad_target_ends_in_a_line(main, model, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([*model, "--json", str(tmp_path / "none" / "a.json")]) == 1
    assert "make it first" in capsys.readouterr().err
    assert main([*model, "--target", "llvm -mcpu=nonsense"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "nonsense" in error and len(error.splitlines()) == 1


def test_no_calls_are_no_ablation() -> None:
    with pytest.raises(SystemExit) as end:
        ablation(["resnet18-random", "--repeat", "0"])
    assert end.value.code == 2
