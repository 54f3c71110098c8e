"""The loss of ZeroQ and GENIE: plain squared distances of statistics, where retro-synthesis takes relative ones and adds a class term.

    total = batch_norm + input

batch_norm  sum over BN layers of |m - mean|^2 / n + |d - deviation|^2 / n, at each BN's own input;  deviation = sqrt(running_var + 1e-6)
              ZeroQ   m, d (N, C) of each image by itself, n = N: the mean over images of a sum over channels
              GENIE   m, d (C,) of the whole batch, n = C: the mean over channels
input       the mean over images of |m|^2 + |d - 1|^2, m and d (N, C) of the normalised images; inputs that are no images have none

Sources: Cai et al., "ZeroQ: A Novel Zero Shot Quantization Framework", CVPR 2020, and Jeon et al., "Genie: Show Me the Data for
Quantization", CVPR 2023, with their published distill_data.py and distill.py. These take unbiased variances, which a map of one pixel does
not have, and ZeroQ the outputs of convolutions, in the order of the batch norms, for the inputs of these. Both are for networks that take
N(0, 1); here the scale of the input is found first (`synthesis_input`), since they would fail at any other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch

from tvm_rsq.executor import Executor
from tvm_rsq.synthesis_loss import Before, ChannelStatistics

_EPSILON = 1e-6  # of both, whatever the batch norm's own


class DistanceLoss:
    """The terms of the loss, for one network.   per_image: ZeroQ's statistics; else GENIE's"""

    def __init__(self, executor: Executor, *, per_image: bool) -> None:
        self._executor = executor
        self._statistics = ImageStatistics if per_image else ChannelStatistics
        self._targets: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)
        for step in executor.batch_norms:
            self._targets[step.input].append((step.mean, (step.variance + _EPSILON).sqrt()))

    def __call__(
        self, inputs: Sequence[torch.Tensor], normalised: Sequence[torch.Tensor], before: Before | None = None
    ) -> dict[str, torch.Tensor]:
        """The scalars "total", "batch_norm" and "input".

        inputs  as the network takes them;   normalised  the same before gain and offset
        """
        batch_norm: list[torch.Tensor] = [torch.zeros((), device=self._executor.device)]

        def observe(name: str, value: torch.Tensor) -> None:
            for mean, deviation in self._targets.get(name, ()):
                found_mean, found_deviation = self._statistics.apply(value, _EPSILON)  # type: ignore[no-untyped-call]
                batch_norm.append(_distance(found_mean, mean) + _distance(found_deviation, deviation))

        self._executor.run(inputs, observe=observe, before=before)
        gaussian: list[torch.Tensor] = [torch.zeros((), device=self._executor.device)]
        for image in normalised:
            if image.ndim > 2:
                mean, deviation = ImageStatistics.apply(image, _EPSILON)  # type: ignore[no-untyped-call]
                gaussian.append(_distance(mean, torch.zeros(())) + _distance(deviation, torch.ones(())))
        terms = {"batch_norm": torch.stack(batch_norm).sum(), "input": torch.stack(gaussian).sum()}
        return {"total": terms["batch_norm"] + terms["input"], **terms}


def _distance(found: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (found - target).square().sum() / len(found)


class ImageStatistics(torch.autograd.Function):
    """(N, C, ...) -> mean (N, C) and sqrt(var + epsilon) (N, C) of each image by itself; var is the biased one.

    As ChannelStatistics, which takes the whole batch: batch norm's own kernel image by image is 5 to 10 times faster than torch.var_mean.
    """

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
        found = [torch.native_batch_norm(image[None], None, None, None, None, True, 0.0, epsilon)[1:] for image in value]
        mean, inverse = (torch.stack(each) for each in zip(*found, strict=True))
        std = inverse.reciprocal()
        ctx.save_for_backward(value, mean, std)
        return mean, std

    @staticmethod
    def backward(ctx: Any, grad_mean: torch.Tensor, grad_std: torch.Tensor) -> tuple[torch.Tensor, None]:
        value, mean, std = ctx.saved_tensors
        shape = (*mean.shape, *[1] * (value.ndim - 2))
        count = value[0, 0].numel()
        slope = grad_std / (std * count)
        return torch.addcmul((grad_mean / count - slope * mean).reshape(shape), value, slope.reshape(shape)), None
