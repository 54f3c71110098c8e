"""Reconstruction: roundings, biases and scales of activations, learned block by block, so that each block computes what it did in float.

    for each block, in order:   learn (see reconstruct_block) on inputs that carry the errors of all blocks before it, then go on

Li et al., "BRECQ" (ICLR 2021), with the drop of Wei et al., "QDrop" (ICLR 2022); `layerwise` without drop is Nagel et al., "AdaRound"
(ICML 2020). How many steps and images follow from the network's size (`reconstruction_budget`), not from the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tvm_rsq.augment import augmented
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.errors import ConfigError
from tvm_rsq.executor import Executor
from tvm_rsq.layer_record import LayerPlan
from tvm_rsq.learned_scale import LearnedScale
from tvm_rsq.model import Model
from tvm_rsq.network_blocks import NetworkBlock, network_blocks
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import find_islands
from tvm_rsq.plan import QuantPlan
from tvm_rsq.progress import Progress, ProgressCallback, silent
from tvm_rsq.quantize_layers import bias_of
from tvm_rsq.reconstruct_block import BlockData, BlockUnderWay, learn
from tvm_rsq.reconstruction_budget import BlockCost, Budget, block_costs, fitting, plan_budget, views
from tvm_rsq.round_weights import free_layers, nearest
from tvm_rsq.sensitivity import fake_quantized
from tvm_rsq.soft_rounding import SoftRounding
from tvm_rsq.tensor_quant import TensorQuant
from tvm_rsq.torch_device import torch_device

LEARNED_BITS = 8  # scales of activations with fewer bits are learned
DROP = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reconstruction:
    """What was learned.

    adjusted  weight or bias parameter -> float32 of its shape; weights are exactly scale * integer, for every quantized layer
    tensors   stored tensor -> its quantization: the plan's, or with a learned scale
    notes     one-line remarks for the report
    unreached biases of blocks that had no turn before the end
    blocks    how many had one
    """

    adjusted: Mapping[str, np.ndarray]
    tensors: Mapping[str, TensorQuant]
    notes: tuple[str, ...]
    blocks: int
    unreached: frozenset[str] = frozenset()


def reconstruct(
    model: Model, plan: QuantPlan, calibration: CalibrationSet, *, adjusted: Mapping[str, np.ndarray] | None = None, seed: int = 0,
    layerwise: bool = False, augment: bool = True, budget: Budget | None = None, executor: Executor | None = None,
    progress: ProgressCallback = silent, should_stop: Callable[[], bool] | None = None,
) -> Reconstruction:  # fmt: skip
    """Learn the weights' roundings, the biases, and scales of activations with fewer than 8 bits.

    model      deploy form
    adjusted   where to start: rounded weights (`error_feedback` gives good ones) and biases; for the rest, rounding to nearest and the
               model's own
    layerwise  every layer a block of its own, without drop
    augment    learn from further views of images, too (see augment)
    budget     None: what plan_budget gives for this network
    The same arguments and number of threads give the same bytes, on the processor. When `should_stop` returns True, or at
    KeyboardInterrupt, blocks that are done are kept, the rest stays as it was given, and a note says so. Layers in float stay as they are;
    layers with accumulate16 too, and a note names them. A block that learning did not improve stays as it was given.
    ConfigError: `adjusted` names something that is no parameter.
    """
    return _Reconstruct(model, plan, calibration, adjusted or {}, seed, layerwise, augment, budget, executor, progress, should_stop).run()


class _Reconstruct:
    def __init__(
        self, model: Model, plan: QuantPlan, calibration: CalibrationSet, adjusted: Mapping[str, np.ndarray], seed: int, layerwise: bool,
        augment: bool, budget: Budget | None, executor: Executor | None, progress: ProgressCallback, should_stop: Callable[[], bool] | None,
    ) -> None:  # fmt: skip
        if unknown := adjusted.keys() - model.params.keys():
            raise ConfigError(f"adjusted has {sorted(unknown)[:3]}, expected parameters of the network such as {list(model.params)[:3]}")
        self.plan, self.progress, self.should_stop = plan, progress, should_stop or (lambda: False)
        self.executor = executor or Executor(model, device=torch_device())
        self.generator = torch.Generator().manual_seed(seed)
        self.free: Mapping[str, LayerPlan] = free_layers(plan)
        self.biases = _own_biases(model)
        self.blocks = network_blocks(self.executor, plan.tensors, layerwise=layerwise)
        self.params = {**self.executor.params}
        given = {**nearest(model, plan), **adjusted}
        self.params.update({name: torch.from_numpy(np.array(value, np.float32)).to(self.executor.device) for name, value in given.items()})
        self.known = set(given)
        self.tensors = dict(plan.tensors)
        sample = self.executor.named([torch.from_numpy(np.array(array[:1])) for array in calibration.inputs])
        self.costs: list[BlockCost] = block_costs(self.executor, self.blocks, list(sample.values()))
        taken = calibration.spaced(fitting(self.costs))
        seen = augmented(taken, views(self.costs, len(taken)), seed) if augment else taken
        self.notes = [f"learned from {len(seen)} views of {len(taken)} of {len(calibration)} images"]
        images = self.executor.named([torch.from_numpy(np.array(array)) for array in seen.inputs])
        self.exact: dict[str, torch.Tensor] = images
        self.rough = {name: fake_quantized(value, self.tensors.get(name)) for name, value in images.items()}
        self.budget = budget or plan_budget(self.costs, len(seen), keep_float=0.0 if layerwise else DROP)
        self.fixed = self._fixed_tensors()

    def run(self) -> Reconstruction:
        notes = [*self.notes, *self.budget.notes]
        skipped = [layer.name for layer in self.plan.layers if layer.accumulate16]
        if skipped:
            notes.append(f"not reconstructed, for their sums are to fit 16 bits: {', '.join(skipped)}")
        done, kept = 0, []
        try:
            for i, block in enumerate(self.blocks):
                learned = None if self.should_stop() else self._learn(i, block)
                if learned is None:
                    break
                if not learned:
                    kept.append(block.outputs[-1])
                done += 1
                self.progress(Progress(stage="reconstruction", done=done, total=len(self.blocks), detail=block.outputs[-1]))
        except KeyboardInterrupt:
            pass
        if done < len(self.blocks):
            notes.append(f"stopped by the user: {done} of {len(self.blocks)} blocks are reconstructed")
        if kept:
            notes.append(f"{len(kept)} of {done} blocks were best as they were: {', '.join(kept[:4])}")
        adjusted = {name: np.ascontiguousarray(self.params[name].cpu().numpy()) for name in self.params if name in self.known}
        unreached = {self.biases[layer.name] for block in self.blocks[done:] for layer in block.layers if layer.name in self.biases}
        return Reconstruction(adjusted=adjusted, tensors=self.tensors, notes=tuple(notes), blocks=done, unreached=frozenset(unreached))

    def _learn(self, index: int, block: NetworkBlock) -> bool | None:
        """Whether anything was gained; None when stopped. The block's outputs take the place of its inputs."""
        chunk = self.costs[index].chunk
        exact = {name: self.exact[name] for name in block.inputs}
        rough = {name: self.rough[name] for name in block.inputs}
        targets = BlockUnderWay(block=block, params=self.executor.params).outputs(exact, {}, chunk)
        work = self._work(block)
        found: dict[str, torch.Tensor] = {}
        if work.roundings:
            data = BlockData(exact=exact, rough=rough, targets=targets)
            started = {name: self.params[name] for name in [*work.roundings, *work.biases]}
            gained = learn(work, data, self.budget.settings[index], started, self.generator, self._goes_on, chunk=chunk)
            if gained is None:
                return None
            found = gained
        learned = {name: work.scales[name].learned(self.tensors[name]) for name in work.scales} if found else {}
        self.params.update(found)
        self.known.update(found)
        self.tensors.update(learned)
        after = BlockUnderWay(block=block, params=self.params, quants={name: self.tensors[name] for name in work.quants})
        self.rough.update(after.outputs(rough, {}, chunk))
        self.exact.update(targets)
        self._forget(index)
        return bool(found) or not work.roundings

    def _goes_on(self) -> bool:
        return not self.should_stop()

    def _work(self, block: NetworkBlock) -> BlockUnderWay:
        bound = {step.name for step in block.steps}
        roundings, biases = {}, {}
        for layer in block.layers:
            if (chosen := self.free.get(layer.name)) is None:
                continue
            roundings[layer.name] = SoftRounding(
                self.executor.params[layer.name], chosen.grid, layer.axis,
                rounded=self.params[layer.name] if layer.name in self.known else None,
            )  # fmt: skip
            if (bias := self.biases.get(layer.name)) is not None:
                biases[bias] = layer.binding
        quants = {name: quant for name, quant in self.tensors.items() if name in bound}
        scales: dict[float, LearnedScale] = {}
        sharing = {q.scale for n, q in self.tensors.items() if n not in bound or n in self.fixed or q.bits >= LEARNED_BITS}
        for quant in quants.values():
            if quant.scale not in sharing:
                scales.setdefault(quant.scale, LearnedScale(quant.scale))
        shared: dict[str, LearnedScale] = {name: scales[quant.scale] for name, quant in quants.items() if quant.scale in scales}
        return BlockUnderWay(block=block, params=self.params, roundings=roundings, biases=biases, quants=quants, scales=shared)

    def _fixed_tensors(self) -> set[str]:
        """Tensors whose scales weights depend on: effective multipliers of these layers are powers of two."""
        reads = {layer.name: layer.input for layer in self.executor.layers}
        shifted = [layer for layer in self.plan.layers if layer.requantize == "shift"]
        return {name for layer in shifted for name in (layer.output, reads[layer.name])}

    def _forget(self, index: int) -> None:
        wanted: set[Any] = {name for block in self.blocks[index + 1 :] for name in block.inputs}
        for values in (self.exact, self.rough):
            for name in [name for name in values if name not in wanted]:
                del values[name]


def _own_biases(model: Model) -> dict[str, str]:
    """Layer -> the bias parameter that its kernel adds, where no other layer has it too."""
    view = Dataflow(model.module)
    named = {island.layer: bias_of(view, island.ops) for island in find_islands(view, ()).islands if island.layer}
    return {layer: bias for layer, bias in named.items() if bias is not None and len(view.users[bias]) == 1}
