"""QuantizedModel: a network with its plan, ready to be simulated, compiled for any target, and exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
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
from tvm_rsq.plan import QuantPlan
from tvm_rsq.progress import ProgressCallback, silent
from tvm_rsq.quantize_layers import code_float_layers, quantize_layers

if TYPE_CHECKING:
    import os

    from tvm_rsq.compiled_module import CompiledModule
    from tvm_rsq.tune_config import TuneConfig
    from tvm_rsq.tuning.placed_codes import Codes


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedModel:
    """What `tvm_rsq.quantize` returns.

    source       the network as it was read (batch norms kept)
    model        its deploy form, which the plan's names refer to
    plan         every decision
    calibration  the data they were made with
    config       what the user asked for
    adjusted     parameters that the integer network is made from in place of the model's own: float32 weights that were moved to points
                 of their grids (see `rounding`), biases that were corrected; the float network is still the model's
    """

    source: Model
    model: Model
    plan: QuantPlan
    calibration: CalibrationSet
    config: QuantConfig
    adjusted: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """One-line remarks on the calibration data, where they decided anything, and of those who decided."""
        return (*(self.calibration.notes if self.plan.calibrated else ()), *self.plan.notes)

    @cached_property
    def annotated(self) -> Model:
        """The network in QDQ form: int8 weights, int32 biases, quantize/dequantize around stored tensors."""
        model = replace(self.model, params={**self.model.params, **self.adjusted})
        return pipeline.annotate(model, quantize_layers(model, self.plan), self.plan.tensors, code_float_layers(model, self.plan))

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

    def export_onnx(self, path: str | os.PathLike[str], opset: int = 21) -> None:
        """Write the plan as a standard QDQ network for other runtimes, opset 13 to 21; see tvm_rsq/onnx_export/export.py.

        ConfigError: another opset, or a path that cannot be written. UnsupportedError: an operator that ONNX has no node for, by name.
        """
        from tvm_rsq.onnx_export.export import write_qdq

        write_qdq(self.annotated, Path(path), opset)

    def compile(
        self, target: object = "llvm", *, tuning: TuneConfig | None = None, codes: Codes = "auto", progress: ProgressCallback = silent
    ) -> CompiledModule:
        """An integer library for a target: a string, a dict, a tvm Target, a preset's name or a TargetSpec.

        tuning  tune the convolutions that lack records first, and use what was found; None: untuned kernels
        codes   where codes of weights become weights, see tvm_rsq.compile
        """
        from tvm_rsq.compiler import compile_quantized

        return compile_quantized(self, target, tuning=tuning, codes=codes, progress=progress)
