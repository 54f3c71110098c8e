"""Retro-synthesis: Model -> CalibrationSet, without data.

Images are optimised from smooth noise until the statistics that they leave at every batch normalisation are those of the training set, and
until the network sees a random class in each of them (`synthesis_loss`). How many and for how long follows from the network's size
(`synthesis_budget`), the scale of the input from its statistics (`synthesis_input`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import SynthesisConfig, check_effort, check_seed
from tvm_rsq.errors import CalibrationError
from tvm_rsq.executor import Executor, Step
from tvm_rsq.model import Model
from tvm_rsq.progress import Progress, ProgressCallback, silent
from tvm_rsq.synthesis_budget import Budget, network_cost, plan_budget
from tvm_rsq.synthesis_input import InputScale, find_input_scale, starting_images
from tvm_rsq.synthesis_loss import Before, StatisticsLoss

_OPTIMIZERS = {"adam": torch.optim.Adam, "nadam": torch.optim.NAdam, "radam": torch.optim.RAdam}


def synthesize(
    model: Model,
    config: SynthesisConfig | None = None,
    *,
    seed: int = 0,
    effort: Literal["instant", "best"] = "instant",
    progress: ProgressCallback = silent,
    should_stop: Callable[[], bool] | None = None,
) -> CalibrationSet:
    """Make calibration data for `model` (canonical form: NCHW, batch normalisations kept).

    Every array is (images, *input shape without batch) float32. The same seed, model, configuration and number of threads give the same
    bytes, unless the time limit strikes. When `should_stop` returns True, at KeyboardInterrupt or at the time limit, the best images so
    far are returned, and a note says so; batches that were not begun are left out.
    ConfigError: a seed or effort that is none. CalibrationError: the loss is not finite (the network computes NaN on ordinary inputs).
    """
    check_seed(seed)
    check_effort(effort)
    config = config or SynthesisConfig()
    generator = torch.Generator().manual_seed(seed)
    if config.source != "retro-synthesis":
        return _noise(model, config, seed, generator)

    deadline = math.inf if config.time_limit_s is None else time.monotonic() + config.time_limit_s
    executor = Executor(model)
    cost = network_cost(executor, starting_images(model.inputs, 1, torch.Generator().manual_seed(seed)))
    budget = plan_budget(cost, config, effort)
    loss = StatisticsLoss(executor, class_weight=config.class_weight, input_weight=config.input_weight)
    scale = find_input_scale(loss, bool(executor.batch_norms), model.inputs, generator)
    notes = [*budget.notes, f"input scale {scale.offset:g} + {scale.gain:g} * N(0, 1): {scale.reason}"]
    if not executor.batch_norms:
        notes.append(
            "no batch norm: only the class and input terms shape the images; keep batch norms when exporting, or calibrate on real inputs"
        )

    def stop_reason() -> str:
        if should_stop is not None and should_stop():
            return "stopped by the user"
        return "time limit reached" if time.monotonic() >= deadline else ""

    run = _Run(
        model=model, config=config, budget=budget, loss=loss, scale=scale, generator=generator, progress=progress, stop_reason=stop_reason
    )  # fmt: skip
    batches: list[list[np.ndarray]] = []
    while run.images_left > 0 and not run.stopped:
        batches.append(run.batch())
    if run.stopped:
        done = sum(len(batch[0]) for batch in batches)
        notes.append(f"{run.stopped} after {len(run.curve)} steps: {done} of {budget.images} images, each batch at its lowest loss")
    inputs = tuple(np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    return CalibrationSet(
        inputs=inputs, source="retro-synthesis", seed=seed, network_hash=model.network_hash, loss_curve=tuple(run.curve), notes=tuple(notes)
    )


@dataclass(kw_only=True, eq=False)
class _Run:
    """One synthesis in progress: its means, and what it has come to."""

    model: Model
    config: SynthesisConfig
    budget: Budget
    loss: StatisticsLoss
    scale: InputScale
    generator: torch.Generator
    progress: ProgressCallback
    stop_reason: Callable[[], str]
    curve: list[dict[str, float]] = field(default_factory=list)
    images_left: int = field(init=False)
    stopped: str = ""

    def __post_init__(self) -> None:
        self.images_left = self.budget.images

    def batch(self) -> list[np.ndarray]:
        """Optimise the next batch; its images at the lowest loss, one array per input."""
        count = min(self.budget.batch, self.images_left)
        self.images_left -= count
        normalised = [value.requires_grad_() for value in starting_images(self.model.inputs, count, self.generator)]
        classes = self.loss.classes(self.scale.apply([value.detach()[:1] for value in normalised]))
        targets = torch.randint(0, classes, (count,), generator=self.generator) if classes else None
        optimizer = _OPTIMIZERS[self.config.optimizer](normalised, lr=self.config.learning_rate)
        before = _swing(self.generator) if self.config.swing else None

        best, lowest = [value.detach().clone() for value in normalised], math.inf
        try:
            for step in range(self.budget.steps):
                cosine = (1 + math.cos(math.pi * step / self.budget.steps)) / 2
                optimizer.param_groups[0]["lr"] = self.config.learning_rate * cosine
                optimizer.zero_grad(set_to_none=True)
                terms = self.loss(self.scale.apply(normalised), normalised, targets, before)
                self._note(terms, step)
                if self.curve[-1]["total"] < lowest:
                    best, lowest = [value.detach().clone() for value in normalised], self.curve[-1]["total"]
                terms["total"].backward()
                optimizer.step()
                if self.config.low_pass:
                    _smooth(normalised, self.config.low_pass * cosine)
                if self.stopped:
                    break
        except KeyboardInterrupt:
            self.stopped = "stopped by the user"
        return [value.contiguous().numpy() for value in self.scale.apply(best)]

    def _note(self, terms: dict[str, torch.Tensor], step: int) -> None:
        values = {name: float(value.detach()) for name, value in terms.items()}
        if not math.isfinite(values["total"]):
            raise CalibrationError(
                f"synthesis loss is {values['total']} at step {step}, expected a finite number; the network computes NaN or infinity on "
                "ordinary inputs, check its weights, or lower learning_rate"
            )
        self.curve.append(values)
        batches = -(-self.budget.images // self.budget.batch)
        self.progress(
            Progress(stage="synthesis", done=len(self.curve), total=self.budget.steps * batches, detail=f"loss {values['total']:.3f}")
        )
        self.stopped = self.stopped or self.stop_reason()


def _noise(model: Model, config: SynthesisConfig, seed: int, generator: torch.Generator) -> CalibrationSet:
    """The controls: N(0, 1), or uniform noise of the same mean and standard deviation."""
    images = config.images or 16
    arrays = []
    for spec in model.inputs:
        shape = (images, *spec.shape[1:])
        uniform = config.source == "uniform"
        values = (torch.rand(shape, generator=generator) * 2 - 1) * math.sqrt(3) if uniform else torch.randn(shape, generator=generator)
        arrays.append(values.numpy())
    return CalibrationSet(inputs=tuple(arrays), source=config.source, seed=seed, network_hash=model.network_hash)


def _swing(generator: torch.Generator) -> Before:
    """Shift the input of every strided convolution by up to one pixel, at random: no output position may rely on its own input pixels."""

    def before(step: Step, read: list[torch.Tensor]) -> list[torch.Tensor]:
        if step.op != "relax.nn.conv2d" or max(int(stride) for stride in step.expr.attrs.strides) == 1 or min(read[0].shape[2:]) < 2:
            return read
        height, width = read[0].shape[2:]
        top, left = torch.randint(0, 3, (2,), generator=generator).tolist()
        padded = F.pad(read[0], (1, 1, 1, 1), mode="reflect")
        shifted = padded[:, :, top : top + height, left : left + width]
        # A crop would make torch leave channels-last memory from here on, at twice the time.
        return [shifted.contiguous(memory_format=torch.channels_last), *read[1:]]

    return before


def _smooth(images: list[torch.Tensor], strength: float) -> None:
    """Mix every image with its 3x3 binomial average, in place.   0 <= strength <= 1"""
    row = torch.tensor([0.25, 0.5, 0.25])
    with torch.no_grad():
        for image in images:
            if image.ndim == 4:
                channels = image.shape[1]
                kernel = torch.outer(row, row).expand(channels, 1, 3, 3)
                image.lerp_(F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels), strength)
