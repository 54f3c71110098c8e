"""A deploy-form function -> its annotated form, for the tests of the passes behind annotation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from tvm.ir import IRModule

from tvm_rsq import pipeline
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import QuantConfig
from tvm_rsq.model import InputSpec, Model
from tvm_rsq.passes.dataflow import operator_of
from tvm_rsq.passes.fold_islands import fold_islands
from tvm_rsq.passes.island_view import IslandView
from tvm_rsq.planner import make_plan
from tvm_rsq.quantized_model import QuantizedModel


def model_of(mod: IRModule, *, seed: int = 0) -> Model:
    """The function with normal weights: its num_input first parameters are the inputs."""
    rng = np.random.default_rng(seed)
    shapes = {var.name: tuple(int(extent) for extent in var.ty.shape.values) for var in mod["main"].params}
    names, count = list(shapes), int(mod["main"].attrs["num_input"])
    params = {name: (0.3 * rng.standard_normal(shapes[name])).astype(np.float32) for name in names[count:]}
    return Model(module=mod, params=params, inputs=tuple(InputSpec(name=n, shape=shapes[n], dtype="float32") for n in names[:count]))


def quantized(model: Model, **config: object) -> QuantizedModel:
    """Per channel unless said otherwise, calibrated on eight normal samples of every input."""
    rng = np.random.default_rng(1)
    data = CalibrationSet(inputs=tuple(rng.standard_normal((8, *spec.shape[1:])).astype(np.float32) for spec in model.inputs))
    settings = QuantConfig(**{"scheme": "per_channel", **config})  # type: ignore[arg-type]
    return QuantizedModel(source=model, model=model, plan=make_plan(model, data, settings), calibration=data, config=settings)


def island(mod: IRModule, name: str, **config: object) -> tuple[IslandView, Mapping[str, np.ndarray]]:
    """The island that makes `name`, as the lowering reads it, and the annotated parameters."""
    annotated = quantized(model_of(mod), **config).annotated
    folded = fold_islands(annotated.module)
    views = [IslandView(folded, var.name_hint) for var in folded.get_global_vars() if var.name_hint != "main"]
    return next(view for view in views if view.tensor == name), annotated.params


def operators(mod: IRModule) -> list[str]:
    """Operators of main in order."""
    return [operator_of(binding.value) for block in mod["main"].body.blocks for binding in block.bindings]


def lowered(found: QuantizedModel):
    """(module, kernel calls) for this machine."""
    from tvm_rsq.compiler import evaluate_elementwise
    from tvm_rsq.targets.parse import parse_target

    return pipeline.lower(found.annotated, parse_target("llvm").library, evaluate_elementwise)
