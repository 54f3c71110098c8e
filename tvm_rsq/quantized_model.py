"""QuantizedModel: a network with its plan, ready to be simulated, compiled for any target, and exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from tvm_rsq import pipeline
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import QuantConfig
from tvm_rsq.executor import Executor
from tvm_rsq.inputs import check_inputs
from tvm_rsq.integer_reference import IntegerReference
from tvm_rsq.model import Model
from tvm_rsq.passes.annotate_qdq import LayerQuant
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import find_islands
from tvm_rsq.plan import QuantPlan
from tvm_rsq.planner import bias_of
from tvm_rsq.progress import ProgressCallback, silent
from tvm_rsq.uniform import quantize_weight

if TYPE_CHECKING:
    from tvm_rsq.compiled_module import CompiledModule
    from tvm_rsq.tune_config import TuneConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedModel:
    """What `tvm_rsq.quantize` returns.

    source       the network as it was read (batch norms kept)
    model        its deploy form, which the plan's names refer to
    plan         every decision
    calibration  the data they were made with
    config       what the user asked for
    """

    source: Model
    model: Model
    plan: QuantPlan
    calibration: CalibrationSet
    config: QuantConfig

    @cached_property
    def annotated(self) -> Model:
        """The network in QDQ form: int8 weights, int32 biases, quantize/dequantize around stored tensors."""
        return pipeline.annotate(self.model, quantize_layers(self.model, self.plan), self.plan.tensors)

    def simulate(self, *inputs: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """The reference: the QDQ network in float64 with the kernels' rounding. Slow and exact.

        inputs  of the network's shapes, with any batch
        InputError: wrong number, shape or dtype of arrays.
        """
        outputs, _ = self._reference(inputs)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def simulate_tensors(self, *inputs: np.ndarray) -> dict[str, np.ndarray]:
        """uint8 values of every stored tensor in the simulation, by tensor name."""
        stored = self._reference(inputs)[1].stored
        return {name: stored[name].numpy() for name in self.plan.tensors}

    def _reference(self, inputs: tuple[np.ndarray, ...]) -> tuple[list[np.ndarray], IntegerReference]:
        arrays = check_inputs(self.model.inputs, inputs, any_batch=True)
        executor = Executor(self.annotated, dtype=torch.float64)
        reference = IntegerReference(self.annotated)
        with torch.no_grad():
            outputs = executor.run([torch.from_numpy(array) for array in arrays], observe=reference)
        return [output.to(torch.float32).numpy() for output in outputs], reference

    def compile(
        self, target: object = "llvm", *, tuning: TuneConfig | None = None, progress: ProgressCallback = silent
    ) -> CompiledModule:
        """An integer library for a target: a string, a dict, a tvm Target, a preset's name or a TargetSpec.

        tuning  tune the convolutions that lack records first, and use what was found; None: untuned kernels
        """
        from tvm_rsq.compiler import compile_quantized

        return compile_quantized(self, target, tuning=tuning, progress=progress)


def quantize_layers(model: Model, plan: QuantPlan) -> Mapping[str, LayerQuant]:
    """Integer weights and biases of every layer that the plan quantizes."""
    view = Dataflow(model.module)
    in_float = {layer.name for layer in plan.layers if layer.scheme == "float"}
    islands = {island.layer: island for island in find_islands(view, in_float).islands if island.layer}
    found = {}
    for layer in plan.layers:
        if layer.scheme == "float":
            continue
        island = islands[layer.name]
        weight = model.params[layer.name]
        axis = weight.ndim - 1 if layer.op == "dense" else 0
        scale = np.asarray(layer.weight_scale, np.float32)
        input_scale = plan.tensors[view.operand(island.ops[0], 0)].scale
        bias = bias_of(view, island.ops)
        found[layer.name] = LayerQuant(
            weight=quantize_weight(weight, scale, axis if scale.size > 1 else None, layer.weight_bits),
            scale=scale,
            axis=axis,
            input_scale=input_scale,
            bias=None if bias is None else _integer_bias(model.params[bias], scale, input_scale),
        )
    return found


def _integer_bias(bias: np.ndarray, scale: np.ndarray, input_scale: float) -> np.ndarray:
    # The scales leave the rounded bias within 30 bits (see uniform.bias_scale_floor); the product is what annotate_qdq writes.
    unit = (scale * np.float32(input_scale)).astype(np.float64)
    return np.clip(np.rint(bias.astype(np.float64) / unit), -(2**31) + 1, 2**31 - 1).astype(np.int32)
