"""Bias correction: the means behind activations are FP32's again, as far as the samples can tell."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tests.tiny_networks import classifier
from tvm_rsq.bias_correction import correct_biases, mean_offset
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import QuantConfig
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load
from tvm_rsq.paired_run import PairedRun, StepValues
from tvm_rsq.pipeline import prepare
from tvm_rsq.planner import make_plan
from tvm_rsq.round_weights import nearest

RNG = np.random.default_rng(0)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU6(), nn.Conv2d(8, 6, 1)).eval()


def test_offset_equates_the_means_behind_a_relu():
    exact = torch.relu(torch.from_numpy(RNG.normal(0, 1, (64, 50, 3)).astype(np.float32)))
    sums = torch.from_numpy(RNG.normal([0.5, -0.2, 0], 1.5, (64, 50, 3)).astype(np.float32))
    offset = mean_offset(exact, sums, lambda read: torch.relu(read[0]))
    moved = torch.relu(sums + offset.to(sums.dtype))
    np.testing.assert_allclose(moved.mean((0, 1)), exact.mean((0, 1)), atol=5e-3)  # less than all: the shrinking
    # Equating the sums' own means would leave the rectified noise in.
    assert float((torch.relu(sums - sums.mean((0, 1))).mean((0, 1)) - exact.mean((0, 1))).abs().min()) > 0.1


def test_an_error_that_differs_from_sample_to_sample_is_not_corrected():
    exact = torch.zeros(4, 10, 2)
    sums = torch.zeros(4, 10, 2)
    sums[:, :, 0] = torch.tensor([1.0, -1.0, 0.9, -0.8])[:, None]
    sums[:, :, 1] = 0.5
    offset = mean_offset(exact, sums, lambda read: read[0])
    assert float(offset[0]) == 0
    np.testing.assert_allclose(float(offset[1]), -0.5, atol=1e-6)


def mean_errors(model, plan, params, data) -> list[float]:
    """Of every stored tensor: rms over channels of the mean error, in units of the tensor's deviation."""
    found = []

    def after(values: StepValues) -> None:
        if values.step.name in plan.tensors or values.step.name in executor.outputs:
            error = (values.exact - values.rough).reshape(-1, values.exact.shape[-1]).mean(0)
            found.append(float(error.square().mean().sqrt() / values.exact.std()))

    executor = Executor(model)
    run = PairedRun(executor=executor, tensors=plan.tensors, params={k: torch.from_numpy(v) for k, v in params.items()})
    run.walk([torch.from_numpy(data.inputs[0])], after=after)
    return found


def test_mean_errors_of_a_network_at_four_bits_become_small():
    model = prepare(load(network(), (torch.zeros(1, 3, 8, 8),)))
    data = CalibrationSet(inputs=(RNG.standard_normal((32, 3, 8, 8)).astype(np.float32),))
    plan = make_plan(model, data, QuantConfig(scheme="per_tensor", weight_bits=4))
    weights = nearest(model, plan)
    before = {name: value.copy() for name, value in model.params.items()}
    biases = correct_biases(model, plan.tensors, weights, data)
    assert len(biases) == 3 and not biases.keys() & weights.keys()
    plain, corrected = (mean_errors(model, plan, {**weights, **extra}, data) for extra in ({}, biases))
    assert max(corrected[1:]) < 0.35 * max(plain[1:])
    assert all(np.array_equal(before[name], value) for name, value in model.params.items())


def test_layers_in_float_keep_their_biases():
    model = prepare(classifier())
    shape = model.inputs[0].shape[1:]
    data = CalibrationSet(inputs=(np.random.default_rng(1).standard_normal((8, *shape)).astype(np.float32),))
    plan = make_plan(model, data, QuantConfig(scheme="per_channel"))
    weights = nearest(model, plan)
    every = correct_biases(model, plan.tensors, weights, data)
    first = next(iter(weights))
    fewer = correct_biases(model, plan.tensors, {name: value for name, value in weights.items() if name != first}, data)
    assert len(fewer) == len(every) - 1
