"""A plan and parameters with what reconstruction learned, as far as every sum of the integer network still fits.

    m sum|q_w| + |q_b| + zero points < 2^31        q_b = b / (s_input s_weight)

Scales of weights are as `make_plan` chose them, large enough for the biases and the input scales of then (see uniform). All else that
depends on an activation's scale is derived from QuantPlan.tensors when it is wanted: units of biases, multipliers, tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tvm_rsq.model import Model
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import find_islands
from tvm_rsq.plan import QuantPlan
from tvm_rsq.quantize_layers import bias_of, quantize_layers
from tvm_rsq.reconstruct import Reconstruction
from tvm_rsq.tensor_quant import TensorQuant
from tvm_rsq.weight_grid import as_rows

_LIMIT = 2.0**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adopted:
    """plan: with the learned scales; adjusted, notes: as of Reconstruction"""

    plan: QuantPlan
    adjusted: Mapping[str, np.ndarray]
    notes: tuple[str, ...]


def adopt_reconstruction(model: Model, plan: QuantPlan, learned: Reconstruction) -> Adopted:
    """Layers whose sums might not fit get their bias and the scale of their input back, and a note names them.

    model  deploy form, with the biases that `plan` was made for; plan: what the reconstruction started from
    """
    tensors, adjusted = dict(learned.tensors), dict(learned.adjusted)
    restored: list[str] = []
    while True:
        found = replace(plan, tensors=tensors)
        wide = {name: (bias, source) for name, bias, source in _too_wide(model, found, adjusted) if name not in restored}
        if not wide:
            break
        for bias, source in wide.values():
            if bias is not None:
                adjusted[bias] = model.params[bias]
            # what shares the scale of a tensor shares it afterwards
            shared = plan.tensors[source].scale
            tensors.update({name: quant for name, quant in plan.tensors.items() if quant.scale == shared})
        restored += wide
    notes = learned.notes
    if restored:
        notes = (*notes, f"bias and input scale are not the learned ones, with which sums might overflow: {', '.join(restored[:4])}")
    return Adopted(plan=found, adjusted=adjusted, notes=notes)


def _too_wide(model: Model, plan: QuantPlan, adjusted: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str | None, str]]:
    """(layer, its bias parameter, its input) where some input might overflow the accumulator."""
    made = replace(model, params={**model.params, **adjusted})
    view, layers = Dataflow(model.module), quantize_layers(made, plan)
    islands = {island.layer: island for island in find_islands(view, {la.name for la in plan.layers if la.scheme == "float"}).islands}
    for layer in plan.layers:
        if layer.name not in layers:
            continue
        q, island = layers[layer.name], islands[layer.name]
        source = view.variable(island.ops[0], 0)
        quant: TensorQuant = plan.tensors[source]
        total = np.abs(as_rows(q.weight, q.axis).astype(np.float64)).sum(1) * max(quant.zero_point, 2**quant.bits - 1 - quant.zero_point)
        if q.bias is not None:
            total = total + np.abs(q.bias.reshape(-1).astype(np.float64))
        if layer.requantize == "shift":
            # the zero points are added before the shift, see LayerFacts.fit
            total = total + 256 * plan.tensors[layer.output].scale / (q.scale.astype(np.float64) * quant.scale)
        if (total >= _LIMIT).any():
            yield layer.name, bias_of(view, island.ops), source
