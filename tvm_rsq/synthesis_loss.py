"""The loss of retro-synthesis: how far a batch of inputs is from looking, to the network, like its training data.

    total = batch_norm + input_weight * input + class_weight * class

batch_norm  mean over BN layers of mean_c(((mean_c - running_mean_c) / s_c)^2) + mean_c(((std_c - s_c) / s_c)^2),
            at each BN's own input, over batch and space;  std = sqrt(var + eps), s = sqrt(running_var + eps) with that BN's eps
input       mean_c(mean_c^2) + mean_c((std_c - 1)^2) of the normalised inputs
class       cross-entropy of the network's class scores (before any softmax) to given classes, in nats; 0 without class scores
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from tvm_rsq.blocked_product import column_sums
from tvm_rsq.divergence import class_scores, scores_name
from tvm_rsq.executor import BatchNormStep, Executor, Step

Before = Callable[[Step, list[torch.Tensor]], list[torch.Tensor]]


class StatisticsLoss:
    """The terms of the loss, for one network."""

    def __init__(self, executor: Executor, *, class_weight: float, input_weight: float) -> None:
        self._executor = executor
        self._class_weight, self._input_weight = class_weight, input_weight
        self._batch_norms: dict[str, list[tuple[torch.Tensor, torch.Tensor, float]]] = defaultdict(list)
        for step in executor.batch_norms:
            self._batch_norms[step.input].append(_statistics(step))
        self._scores = scores_name(executor, executor.outputs[0])

    def classes(self, inputs: Sequence[torch.Tensor]) -> int:
        """How many classes the network tells apart; 0 if its first output is not one of class scores."""
        with torch.no_grad():
            scores = class_scores(self.run(inputs)[1])
        return 0 if scores is None else scores.shape[1]

    def run(self, inputs: Sequence[torch.Tensor], before: Before | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(the batch_norm term, the class scores) of inputs as the network takes them."""
        terms: list[torch.Tensor] = []
        scores: list[torch.Tensor] = []

        def observe(name: str, value: torch.Tensor) -> None:
            for mean, std, epsilon in self._batch_norms.get(name, ()):
                terms.append(_distance(value, mean, std, epsilon))
            if name == self._scores:
                scores.append(value)

        self._executor.run(inputs, observe=observe, before=before)
        return (torch.stack(terms).mean() if terms else torch.zeros(())), scores[0]

    def scale_error(self, inputs: Sequence[torch.Tensor]) -> float:
        """How wrong the inputs' scale is, by the batch norms: mean of (log(std / s))^2 + (mean - running_mean)^2 / max(std, s)^2.

        Too weak by a factor is as wrong as too strong by it, which is not so for the batch_norm term. Infinite without a finite value.
        """
        errors: list[float] = []

        def observe(name: str, value: torch.Tensor) -> None:
            for mean, std, epsilon in self._batch_norms.get(name, ()):
                center, spread = ChannelStatistics.apply(value, epsilon)  # type: ignore[no-untyped-call]
                shift = (center - mean) / torch.maximum(spread, std)
                errors.append(float((spread / std).log().square().mean() + shift.square().mean()))

        self._executor.run(inputs, observe=observe)
        found = sum(errors) / len(errors) if errors else math.inf
        return found if math.isfinite(found) else math.inf

    def bias_error(self, inputs: Sequence[torch.Tensor]) -> float:
        """How far the layers' sums are from their biases in size: mean over layers of |log(deviation / rms of the bias)|.

        The deviation is the root of the mean over channels of the sums' variance. Infinite for a network without biases.
        """
        sizes = {binding: float(bias.square().mean().sqrt()) for binding, bias in self._biases().items()}
        errors: list[float] = []

        def observe(name: str, value: torch.Tensor) -> None:
            if sizes.get(name, 0.0) > 0:
                spread = float(value.var([d for d in range(value.ndim) if d != 1], correction=0).mean().sqrt())
                errors.append(abs(math.log(max(spread, 1e-30) / sizes[name])))

        self._executor.run(inputs, observe=observe)
        found = sum(errors) / len(errors) if errors else math.inf
        return found if math.isfinite(found) else math.inf

    def _biases(self) -> dict[str, torch.Tensor]:
        """Layer's binding -> the parameter that is added to it."""
        layers = {layer.binding for layer in self._executor.layers}
        found = {}
        for step in self._executor.steps:
            if step.op == "relax.add" and len(step.inputs) == 2 and layers & set(step.inputs):
                (other,) = set(step.inputs) - layers or {""}
                if other in self._executor.params:
                    found[next(name for name in step.inputs if name in layers)] = self._executor.params[other]
        return found

    def __call__(
        self, inputs: Sequence[torch.Tensor], normalised: Sequence[torch.Tensor], targets: torch.Tensor | None, before: Before | None = None
    ) -> dict[str, torch.Tensor]:
        """The scalars "total", "batch_norm", "input" and "class" (the last three unweighted).

        inputs      as the network takes them;   normalised  the same before gain and offset
        targets     int64 (N,) classes, or None
        """
        batch_norm, raw = self.run(inputs, before)
        gaussian = torch.stack([_gaussian(value) for value in normalised]).mean()
        scores = class_scores(raw) if targets is not None else None
        cross_entropy = torch.zeros(()) if scores is None or targets is None else F.cross_entropy(scores, targets.to(scores.device))
        total = batch_norm + self._input_weight * gaussian + self._class_weight * cross_entropy
        return {"total": total, "batch_norm": batch_norm, "input": gaussian, "class": cross_entropy}


def _statistics(step: BatchNormStep) -> tuple[torch.Tensor, torch.Tensor, float]:
    return step.mean, (step.variance + step.epsilon).sqrt(), step.epsilon


def _distance(value: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, epsilon: float) -> torch.Tensor:
    center, spread = ChannelStatistics.apply(value, epsilon)  # type: ignore[no-untyped-call]
    return ((center - mean) / std).square().mean() + ((spread - std) / std).square().mean()


def _gaussian(value: torch.Tensor) -> torch.Tensor:
    if value.ndim < 2:
        return value.new_zeros(())
    center, spread = ChannelStatistics.apply(value, 1e-12)  # type: ignore[no-untyped-call]
    return center.square().mean() + (spread - 1).square().mean()


class ChannelStatistics(torch.autograd.Function):
    """(N, C, ...) -> mean (C,) and sqrt(var + epsilon) (C,) over everything but the channels; var is the biased one.

    On a CPU both are the same, to the last bit, on one thread and on a few, for up to two and a half times the time of batch norm's own
    kernel, which a GPU takes. The gradient is one pass:
        d mean_c / dx = 1 / n        d std_c / dx = (x - mean_c) / (n std_c)        n values per channel
    """

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
        if value.device.type == "cpu":
            mean, std = _mean_and_std(value.movedim(1, -1).reshape(-1, value.shape[1]), epsilon)
        else:
            _, mean, inverse = torch.native_batch_norm(value, None, None, None, None, True, 0.0, epsilon)
            std = inverse.reciprocal()
        ctx.save_for_backward(value, mean, std)
        return mean, std

    @staticmethod
    def backward(ctx: Any, grad_mean: torch.Tensor, grad_std: torch.Tensor) -> tuple[torch.Tensor, None]:
        value, mean, std = ctx.saved_tensors
        shape = (1, -1, *[1] * (value.ndim - 2))
        count = value.numel() // value.shape[1]
        slope = grad_std / (std * count)
        return torch.addcmul((grad_mean / count - slope * mean).reshape(shape), value, slope.reshape(shape)), None


def _mean_and_std(rows: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the columns of (M, C); the square of the second is their biased variance and epsilon."""
    mean = column_sums(rows) / len(rows)
    variance = column_sums((rows - mean.to(rows.dtype)).square_()) / len(rows)
    return mean.to(rows.dtype), (variance + epsilon).sqrt().to(rows.dtype)
