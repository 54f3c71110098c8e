"""What every layer of a plan would ask the kernel library for."""

from __future__ import annotations

from collections.abc import Mapping

from tvm_rsq import pipeline
from tvm_rsq.model import Model
from tvm_rsq.passes.fold_islands import fold_islands
from tvm_rsq.passes.island_view import IslandView
from tvm_rsq.passes.lower_layer import layer_workload
from tvm_rsq.plan import QuantPlan
from tvm_rsq.quantize_layers import code_float_layers, quantize_layers
from tvm_rsq.targets.carrier import Carrier
from tvm_rsq.targets.workload import Conv2DWorkload


def layer_workloads(model: Model, plan: QuantPlan, carrier: Carrier = "uint8") -> Mapping[str, Conv2DWorkload]:
    """Layer -> the workload that the lowering makes of it under `plan`, for a library of that carrier.   model: deploy form"""
    annotated = pipeline.annotate(model, quantize_layers(model, plan), plan.tensors, code_float_layers(model, plan))
    folded = fold_islands(annotated.module)
    islands = [IslandView(folded, var.name_hint, carrier) for var in folded.get_global_vars() if var.name_hint != "main"]
    return {island.layer: layer_workload(island, annotated.params) for island in islands if island.layer}
