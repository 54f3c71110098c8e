"""Ranges of channels that calibration data leaves silent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.integer_networks import Block
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load
from tvm_rsq.layer_statistics import NormalStatistics
from tvm_rsq.origins import origins
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import find_islands
from tvm_rsq.pipeline import prepare
from tvm_rsq.silent_channels import DEVIATIONS, LEAST_DEVIATIONS, widen_silent

X = torch.randn(8, 3, 10, 10, generator=torch.Generator().manual_seed(0))
SEEN = 0.1
WIDE = 40.0  # the silent channel's deviation in training


def widened(function, silent: bool, source: str = "retro-synthesis") -> tuple[dict, str, NormalStatistics]:
    torch.manual_seed(0)
    module = Block(function, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 4, 1), c=nn.Conv2d(4, 2, 1)).eval()
    model = prepare(load(module, (X[:1],)))
    executor, view = Executor(model), Dataflow(model.module)
    islands = find_islands(view, ())
    traced = executor.trace([X])
    statistics = {}
    for island in islands.islands:
        if island.layer in ("a.weight", "b.weight"):
            value = traced[island.ops[1]].numpy().reshape(-1, 4)
            std = value.std(0)
            std[2] = WIDE if silent else 1.5 * std[2]
            statistics[island.layer] = NormalStatistics(mean=value.mean(0), std=std)
    ranges = {name: (-1.0, 1.0) if name == "x" else (0.0, SEEN) for name in islands.quantized}
    found = widen_silent(
        ranges, statistics, CalibrationSet(inputs=(X.numpy(),), source=source), executor=executor, view=view, islands=islands,
        origin=origins(view, islands, ()),
    )  # fmt: skip
    output = next(island.output for island in islands.islands if island.layer == "b.weight")
    assert {name for name in ranges if found[name] != ranges[name]} <= {i.output for i in islands.islands if i.layer}
    return found, output, statistics["b.weight"]


@pytest.mark.parametrize(
    ("function", "low", "high"),
    [
        (lambda m, x: m.c(torch.relu(m.b(torch.relu(m.a(x))))), 0.0, DEVIATIONS * WIDE),
        (lambda m, x: m.c(nn.functional.relu6(m.b(torch.relu(m.a(x))))), 0.0, 6.0),
        (lambda m, x: m.c(m.b(torch.relu(m.a(x)))), -DEVIATIONS * WIDE, DEVIATIONS * WIDE),
        (lambda m, x: m.c(torch.relu(m.b(torch.relu(m.a(x))) + torch.relu(m.a(x)))), 0.0, DEVIATIONS * WIDE),
    ],
)
def test_a_silent_channel_gets_what_its_activation_lets_through(function, low, high):
    found, output, _ = widened(function, silent=True)
    np.testing.assert_allclose(found[output], (low, high), atol=3)


def test_channels_that_were_seen_are_left_as_they_are():
    found, output, _ = widened(lambda m, x: m.c(torch.relu(m.b(torch.relu(m.a(x))))), silent=False)
    assert found[output] == (0.0, SEEN)


def test_without_images_every_channel_gets_four_deviations():
    found, output, _ = widened(lambda m, x: m.c(torch.relu(m.b(torch.relu(m.a(x))))), silent=True, source="statistics")
    np.testing.assert_allclose(found[output], (0.0, LEAST_DEVIATIONS * WIDE), atol=3)
    found, output, _ = widened(lambda m, x: m.c(nn.functional.relu6(m.b(torch.relu(m.a(x))))), silent=True, source="statistics")
    assert found[output] == (0.0, 6.0)
    found, output, trained = widened(lambda m, x: m.c(torch.relu(m.b(torch.relu(m.a(x))))), silent=False, source="statistics")
    assert found[output][1] == pytest.approx(max(SEEN, (trained.mean + LEAST_DEVIATIONS * trained.std).max()))
    assert found[output][1] > SEEN
