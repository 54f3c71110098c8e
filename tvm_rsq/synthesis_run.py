"""The loop that all synthesis shares: batch after batch, optimise, keep the images of the lowest loss, report, end when asked to.

What is optimised (pixels, or a generator of images) and how it is judged are values that `begin` gives for every batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from tvm_rsq.errors import CalibrationError
from tvm_rsq.progress import Progress, ProgressCallback
from tvm_rsq.synthesis_budget import Budget
from tvm_rsq.synthesis_input import InputScale


class Images(Protocol):
    """One batch of images under optimisation. Each step: prepare, render, the loss and its gradient, advance."""

    def prepare(self, step: int) -> None:
        """Begin step 0, 1, ...: the learning rate is set, gradients are cleared."""

    def render(self) -> Sequence[torch.Tensor]:
        """The normalised images as they are now, one (N, ...) float32 per input, differentiable."""

    def advance(self, total: float) -> None:
        """Take the step, once the gradients are there; total is the loss that they are of."""


# inputs as the network takes them, the same normalised -> the loss's terms, "total" among them
Loss = Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor]], dict[str, torch.Tensor]]


@dataclass(kw_only=True, eq=False)
class Run:
    """One synthesis in progress: its means, and what it has come to.

    begin    count -> the next batch of so many images, and its loss
    remedy   what a user may do about a loss that is not finite
    stopped  why it ended before its time, or ""
    """

    begin: Callable[[int], tuple[Images, Loss]]
    budget: Budget
    scale: InputScale
    progress: ProgressCallback
    stop_reason: Callable[[], str]
    remedy: str
    curve: list[dict[str, float]] = field(default_factory=list)
    images_left: int = field(init=False)
    stopped: str = ""

    def __post_init__(self) -> None:
        self.images_left = self.budget.images

    def batch(self) -> list[np.ndarray]:
        """Optimise the next batch; its images at the lowest loss as the network takes them, one array per input.

        CalibrationError: the loss is not finite.
        """
        count = min(self.budget.batch, self.images_left)
        self.images_left -= count
        images, loss = self.begin(count)
        best, lowest = _copy(images.render()), math.inf
        try:
            for step in range(self.budget.steps):
                images.prepare(step)
                normalised = images.render()
                terms = loss(self.scale.apply(normalised), normalised)
                self._note(terms, step)
                total = self.curve[-1]["total"]
                if total < lowest:
                    best, lowest = _copy(normalised), total
                if terms["total"].requires_grad:  # a loss of which no term is left depends on nothing
                    terms["total"].backward()
                images.advance(total)
                if self.stopped:
                    break
        except KeyboardInterrupt:
            self.stopped = "stopped by the user"
        return [value.contiguous().cpu().numpy() for value in self.scale.apply(best)]

    def _note(self, terms: dict[str, torch.Tensor], step: int) -> None:
        values = {name: float(value.detach()) for name, value in terms.items()}
        if not math.isfinite(values["total"]):
            raise CalibrationError(
                f"synthesis loss is {values['total']} at step {step}, expected a finite number; the network computes NaN or infinity on "
                f"ordinary inputs, {self.remedy}"
            )
        self.curve.append(values)
        batches = -(-self.budget.images // self.budget.batch)
        self.progress(
            Progress(stage="synthesis", done=len(self.curve), total=self.budget.steps * batches, detail=f"loss {values['total']:.3f}")
        )
        self.stopped = self.stopped or self.stop_reason()


def _copy(images: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [value.detach().clone() for value in images]
