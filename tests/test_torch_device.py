"""The device that torch works on: named by the environment, refused where it is not there, and the same work on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import tvm_rsq
from tests.integer_networks import Block
from tvm_rsq.errors import ConfigError
from tvm_rsq.torch_device import VARIABLE, device_generator, memory_format, torch_device


def test_the_processor_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert torch_device() == torch.device("cpu")
    monkeypatch.setenv(VARIABLE, "")
    assert torch_device() == torch.device("cpu")
    assert memory_format(torch_device()) is torch.channels_last


@pytest.mark.parametrize(("named", "why"), [("abacus", "expected cpu, cuda"), ("meta", "expected cpu"), ("cuda:99", "unset it")])
def test_a_device_that_is_not_there_is_refused_in_a_line(monkeypatch, named, why):
    monkeypatch.setenv(VARIABLE, named)
    with pytest.raises(ConfigError, match=f"{VARIABLE} is '{named}', .*{why}") as raised:
        torch_device()
    assert "\n" not in str(raised.value)


def test_the_processor_draws_from_the_given_generator():
    generator = torch.Generator().manual_seed(0)
    assert device_generator(torch.device("cpu"), generator) is generator


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU that torch can use")
def test_a_gpu_synthesises_and_reconstructs_as_the_processor_does(monkeypatch):
    """Not the same bytes, for its sums have another order: the same loss, and a network as close to the float one."""
    torch.manual_seed(0)
    parts = {"a": nn.Conv2d(3, 8, 3, padding=1), "n": nn.BatchNorm2d(8), "b": nn.Conv2d(8, 4, 3)}
    module = Block(lambda m, x: m.b(torch.relu(m.n(m.a(x)))).mean((2, 3)), **parts).eval()
    x = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    synthesis = tvm_rsq.SynthesisConfig(images=8, batch=8, steps=40)
    config = tvm_rsq.QuantConfig(effort="best", weight_bits=4, scheme="per_channel", eight_bit_share=0.0, synthesis=synthesis)
    losses, errors = [], []
    for device in ("cpu", "cuda"):
        monkeypatch.setenv(VARIABLE, device)
        quantized = tvm_rsq.quantize(module, config, example_inputs=(x[:1],))
        losses.append(sum(quantized.calibration.loss_curve[-1].values()))
        made = np.concatenate([quantized.simulate(each[None]) for each in x.numpy()])
        with torch.no_grad():
            errors.append(float((torch.from_numpy(made) - module(x)).square().mean()))
    assert losses[1] == pytest.approx(losses[0], rel=0.2)
    assert errors[1] == pytest.approx(errors[0], rel=0.5)
