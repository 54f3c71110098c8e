"""How far a network's outputs are from the reference outputs, in nats.

classes        (N, C), or (N, C, 1, 1) and (N, 1, 1, C), with C >= 2: mean over samples of KL(softmax(reference) || softmax(other));
               an output that is a softmax already is taken as the distribution that it is
anything else  KL between Gaussians of the reference's variance around either:   mean((reference - other)^2) / (2 var(reference))
Several outputs are summed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tvm_rsq.executor import Executor

_SHAPE_ONLY = ("relax.reshape", "relax.flatten", "relax.squeeze", "relax.expand_dims", "relax.permute_dims", "alias", "getitem")
_SMALLEST = 1e-30


def scores_name(executor: Executor, output: str) -> str:
    """The variable whose softmax the output is, or the output itself. Looks through reshapes."""
    steps = {step.name: step for step in executor.steps}
    name = output
    while name in steps and steps[name].op in _SHAPE_ONLY:
        name = steps[name].inputs[0]
    if name in steps and steps[name].op in ("relax.nn.softmax", "relax.nn.log_softmax"):
        return steps[name].inputs[0]
    return output


def is_softmax(executor: Executor, output: str) -> bool:
    """Whether the output holds probabilities."""
    steps = {step.name: step for step in executor.steps}
    source = scores_name(executor, output)
    return source != output and any(step.op == "relax.nn.softmax" and step.inputs[0] == source for step in steps.values())


def class_scores(value: torch.Tensor) -> torch.Tensor | None:
    """(N, C) scores of C >= 2 classes, or None if the tensor's shape does not say so."""
    extents = [extent for extent in value.shape[1:] if extent != 1]
    if value.ndim < 2 or len(extents) != 1:
        return None
    return value.reshape(value.shape[0], -1)


class Divergence:
    """Divergence of a network's outputs from their reference, sample by sample.

    softmax_outputs  of each output, whether it holds probabilities (see `is_softmax`)
    """

    def __init__(self, executor: Executor) -> None:
        self.softmax_outputs = tuple(is_softmax(executor, name) for name in executor.outputs)

    def prepare(self, reference: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The reference outputs in the form that `of` takes: float64 log-probabilities, or the values themselves."""
        return tuple(self._log_probabilities(value, i) for i, value in enumerate(reference))

    def of(self, prepared: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> torch.Tensor:
        """float64 (N,): each sample's divergence, at least 0; infinite where `other` holds NaN or infinity."""
        total = torch.zeros(prepared[0].shape[0], dtype=torch.float64, device=prepared[0].device)
        for i, (reference, value) in enumerate(zip(prepared, other, strict=True)):
            approximation = self._log_probabilities(value, i)
            if class_scores(value) is not None:
                found = (reference.exp() * (reference - approximation)).sum(1)
            else:
                error = (reference - approximation).square().flatten(1).mean(1)
                found = error / (2 * reference.var(correction=0).clamp_min(_SMALLEST))
            # Below zero only by rounding: KL is not negative.
            total += found.nan_to_num(nan=float("inf"), posinf=float("inf")).clamp_min(0)
        return total

    def _log_probabilities(self, value: torch.Tensor, index: int) -> torch.Tensor:
        scores = class_scores(value)
        if scores is None:
            return value.to(torch.float64)
        scores = scores.to(torch.float64)
        return scores.clamp_min(_SMALLEST).log() if self.softmax_outputs[index] else scores.log_softmax(1)
