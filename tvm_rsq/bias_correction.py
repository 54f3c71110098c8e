"""Bias correction from data: quantization moves the mean of every output channel, and a bias can move it back.

    b_q = b + d      with d such that   mean(f(y_q + d)) = mean(f(y_f))        over samples and positions

y_f, y_q are a layer's sums with bias and residual in the float and the quantized network, f its activation. (Nagel et al., ICCV 2019,
section 4.2.1 equate the means of y itself; `bias_correction_analytic` has that form, without data.) The means are equated behind the
activation because that is what the next layer reads: a relu passes the errors of values above 0 and cuts off those below, so that errors
of mean 0 raise the mean behind it; at 4 bits, corrections in front of it drove ResNet-50 from 76 % to chance, layer by layer.

Layers are corrected in execution order, each on inputs that carry what earlier layers' corrections left. A few images tell the mean of a
late layer badly: sixteen values for each logit. So every channel's correction is shrunk by how uncertain it is (the positive part of James
and Stein's estimator):

    d * max(0, 1 - s^2 / (N m^2))        m, s^2: mean and variance over the N samples of each one's mean of f(y_f) - f(y_q)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.executor import Executor
from tvm_rsq.model import Model
from tvm_rsq.paired_run import PairedRun, StepValues
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import find_islands
from tvm_rsq.quantize_layers import bias_of
from tvm_rsq.tensor_quant import TensorQuant

_SMALLEST = 1e-30
_ACTIVATIONS = ("relax.nn.relu", "relax.clip")
_STEPS = 12  # of Newton's method on a piecewise linear function
_ACTIVE = 0.05  # the least slope that a step is divided by: a channel that is nearly always off moves slowly
_POSITIONS = 2**15  # that the means are taken over while d is looked for

Activation = Callable[[list[torch.Tensor]], torch.Tensor]


def correct_biases(
    model: Model, tensors: Mapping[str, TensorQuant], weights: Mapping[str, np.ndarray], calibration: CalibrationSet,
    *, executor: Executor | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Bias parameter -> its corrected value, float32 of its shape.

    model    deploy form
    tensors  activation -> its quantization
    weights  layer -> float32 weight as the integer network has it; the bias of a layer that is missing stays as it is. Biases among them
             are what is corrected in the place of the model's own
    """
    executor = executor or Executor(model)
    ends = {output: bias for output, (layer, bias) in _layer_ends(model).items() if layer in weights}

    def after(values: StepValues) -> torch.Tensor | None:
        bias = ends.get(values.step.name)
        if bias is None:
            return None
        activated = values.step.op in _ACTIVATIONS
        sums = values.read[0] if activated else values.rough
        offset = mean_offset(values.exact, sums, values.step.evaluate if activated else _first)
        own = weights.get(bias, model.params[bias])
        found[bias] = (own.astype(np.float64) + offset.numpy().reshape(own.shape)).astype(np.float32)
        moved = sums + offset.to(sums.dtype)
        return values.step.evaluate([moved, *values.read[1:]]) if activated else moved

    found: dict[str, np.ndarray] = {}
    given = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in weights.items()}
    run = PairedRun(executor=executor, tensors=tensors, params=given)
    run.walk([torch.from_numpy(array) for array in calibration.inputs], after=after)
    return found


def mean_offset(exact: torch.Tensor, sums: torch.Tensor, activation: Activation) -> torch.Tensor:
    """float64 (C,): what to add to `sums` (N, ..., C) so that the means of activation([sums + offset]) are those of `exact`, shrunk."""
    errors = (exact - activation([sums])).to(torch.float64).reshape(len(sums), -1, sums.shape[-1]).mean(1)
    flat, target = sums.reshape(-1, sums.shape[-1]), exact.reshape(-1, exact.shape[-1])
    if (stride := -(-len(flat) // _POSITIONS)) > 1:
        flat, target = flat[::stride], target[::stride]
    wanted = target.to(torch.float64).mean(0)
    offset = torch.zeros_like(wanted)
    for _ in range(_STEPS):
        moved = (flat + offset.to(flat.dtype)).requires_grad_()
        with torch.enable_grad():
            value = activation([moved])
            (slope,) = torch.autograd.grad(value.sum(), moved)
        missing = wanted - value.detach().to(torch.float64).mean(0)
        offset = offset + missing / slope.to(torch.float64).mean(0).clamp_min(_ACTIVE)
    return offset * _certainty(errors)


def _first(read: list[torch.Tensor]) -> torch.Tensor:
    return read[0]


def _certainty(errors: torch.Tensor) -> torch.Tensor:
    """0 to 1 for every channel, of samples' means (N, C); 1 for a single sample, which tells nothing of it."""
    if len(errors) < 2:
        return torch.ones(errors.shape[1], dtype=torch.float64)
    mean, uncertainty = errors.mean(0), errors.var(0) / len(errors)
    return (1 - uncertainty / mean.square().clamp_min(_SMALLEST)).clamp_min(0)


def _layer_ends(model: Model) -> dict[str, tuple[str, str]]:
    """Tensor -> (layer, bias parameter) of the layer whose kernel gives it, for layers that have a bias of their own."""
    view = Dataflow(model.module)
    found = {}
    for island in find_islands(view, ()).islands:
        bias = bias_of(view, island.ops) if island.layer else None
        if bias is not None and len(view.users[bias]) == 1:
            found[island.output] = (str(island.layer), bias)
    return found
