"""Synthesis: Model -> CalibrationSet, without data.

In retro-synthesis, images are optimised from smooth noise until the statistics that they leave at every batch normalisation are those of
the training set, and until the network sees a random class in each of them (`synthesis_loss`). How many and for how long follows from the
network's size (`synthesis_budget`), the scale of the input from its statistics (`synthesis_input`). Beside it stand what takes seconds
(`noise_sources`: statistics, without any optimisation), rivals from the literature and noise, in the same loop where they optimise anything
(`synthesis_methods`, `synthesis_run`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import SynthesisConfig, check_effort, check_seed
from tvm_rsq.executor import Executor
from tvm_rsq.model import Model
from tvm_rsq.noise_sources import leaves, noise, scaled_leaves
from tvm_rsq.progress import Progress, ProgressCallback, silent
from tvm_rsq.synthesis_budget import network_cost, plan_budget
from tvm_rsq.synthesis_input import find_input_scale, starting_images
from tvm_rsq.synthesis_loss import StatisticsLoss
from tvm_rsq.synthesis_methods import METHODS, Setting
from tvm_rsq.synthesis_run import Run
from tvm_rsq.torch_device import torch_device


def synthesize(
    model: Model,
    config: SynthesisConfig | None = None,
    *,
    seed: int = 0,
    effort: Literal["instant", "best"] = "best",
    progress: ProgressCallback = silent,
    should_stop: Callable[[], bool] | None = None,
) -> CalibrationSet:
    """Make calibration data for `model` (canonical form: NCHW, batch normalisations kept).

    Every array is (images, *input shape without batch) float32. The same seed, model, configuration and number of threads give the same
    bytes, unless the time limit strikes. When `should_stop` returns True, at KeyboardInterrupt or at the time limit, the best images so
    far are returned, and a note says so; batches that were not begun are left out.
    ConfigError: a seed or effort that is none. CalibrationError: the loss is not finite (the network computes NaN on ordinary inputs), or
    config.source makes images and an input takes none.
    """
    check_seed(seed)
    check_effort(effort)
    config = config or SynthesisConfig()
    if config.source == "auto":
        config = replace(config, source="retro-synthesis" if effort == "best" else "statistics")
    if config.source in ("gaussian", "uniform"):
        return noise(model, config, seed)
    if config.source == "statistics":
        found = leaves(model, config, seed)
        progress(Progress(stage="synthesis", done=1, total=1, detail="dead leaves, nothing is optimised"))
        return found

    deadline = math.inf if config.time_limit_s is None else time.monotonic() + config.time_limit_s
    generator = torch.Generator().manual_seed(seed)
    method = METHODS[config.source]
    executor = Executor(model, device=torch_device())
    own = method.own_cost(model.inputs)
    cost = network_cost(executor, starting_images(model.inputs, 1, torch.Generator().manual_seed(seed))) + own
    budget = plan_budget(cost, config, effort)
    loss = StatisticsLoss(executor, class_weight=config.class_weight, input_weight=config.input_weight)
    scale = find_input_scale(loss, bool(executor.batch_norms), model.inputs, generator)
    notes = [*budget.notes, f"input scale {scale.offset:g} + {scale.gain:g} * N(0, 1): {scale.reason}"]
    notes += method.notes(config, bool(executor.batch_norms))

    def stop_reason() -> str:
        if should_stop is not None and should_stop():
            return "stopped by the user"
        return "time limit reached" if time.monotonic() >= deadline else ""

    setting = Setting(executor=executor, config=config, loss=loss, scale=scale, steps=budget.steps, generator=generator)
    run = Run(
        begin=method.begin(setting), budget=budget, scale=scale, progress=progress, stop_reason=stop_reason, remedy=method.remedy
    )  # fmt: skip
    batches: list[list[np.ndarray]] = []
    if method.half_drawn and not executor.batch_norms and budget.images > 1:
        run.images_left -= budget.images // 2
        batches.append(scaled_leaves(model, scale, budget.images // 2, seed))
        notes.append(f"{budget.images // 2} of the images are dead leaves, nothing optimised: without batch norms the others go too far")
    while run.images_left > 0 and not run.stopped:
        batches.append(run.batch())
    if run.stopped:
        done = sum(len(batch[0]) for batch in batches)
        notes.append(f"{run.stopped} after {len(run.curve)} steps: {done} of {budget.images} images, each batch at its lowest loss")
    inputs = tuple(np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    return CalibrationSet(
        inputs=inputs, source=config.source, seed=seed, network_hash=model.network_hash, loss_curve=tuple(run.curve), notes=tuple(notes)
    )
