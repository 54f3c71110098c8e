"""LayerPlan of every layer, once it is decided how each is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from tvm_rsq.layer_facts import Candidate, LayerFacts
from tvm_rsq.layer_record import Alternative, GridTrial, LayerPlan
from tvm_rsq.tensor_quant import TensorQuant
from tvm_rsq.uniform import nmse
from tvm_rsq.weight_grid import WeightGrid, as_rows, stored_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How one layer is computed and why; the other fields are those of LayerPlan."""

    candidate: Candidate
    reason: str
    kl_per_tensor: float | None = None
    kl_per_channel: float | None = None
    time_us: float | None = None
    considered: tuple[Alternative, ...] = ()
    grids: tuple[GridTrial, ...] = ()


def layer_plan(layer: LayerFacts, decision: Decision, tensors: Mapping[str, TensorQuant]) -> LayerPlan:
    """The layer under its decision, with the scales that its tensors and weights permit."""
    plan = partial(
        LayerPlan, name=layer.name, op=layer.op, output=layer.output, macs=layer.macs,
        kl_per_tensor=decision.kl_per_tensor, kl_per_channel=decision.kl_per_channel,
    )  # fmt: skip
    if decision.candidate.scheme == "float":
        in_float = plan(scheme="float", reason=decision.reason, weight_bits=32, weight_bytes=layer.weight.nbytes)
        return _coded(layer, in_float) if decision.candidate.nonuniform else in_float
    candidate, grid, lost = fitted(layer, decision.candidate, tensors)
    error = nmse(layer.weight, layer.real(layer.integers(candidate, grid), grid)) if np.any(layer.weight) else 0.0
    return plan(
        scheme=candidate.scheme, weight_scale=tuple(float(s) for s in grid.scale), weight_bits=layer.bits, weight_nmse=error,
        codebook=() if grid.books is None else tuple(tuple(book) for book in grid.books.tolist()),
        weight_bytes=stored_bytes(layer.weight.size, layer.bits), requantize=candidate.requantize, accumulate16=candidate.accumulate16,
        time_us=decision.time_us, considered=decision.considered, grids=decision.grids,
        reason=", ".join(filter(None, (decision.reason, lost))),
    )  # fmt: skip


def _coded(layer: LayerFacts, in_float: LayerPlan) -> LayerPlan:
    """Of a layer in float whose weights are codes of float levels."""
    levels, rows = layer.levels(), as_rows(layer.weight, layer.axis)
    return replace(
        in_float, weight_bits=layer.bits, weight_bytes=stored_bytes(layer.weight.size, layer.bits),
        weight_scale=tuple(levels.scale.tolist()), codebook=(tuple(levels.levels.tolist()),),
        weight_nmse=nmse(rows, levels.products(levels.codes(rows))) if rows.any() else 0.0,
    )  # fmt: skip


def fitted(layer: LayerFacts, candidate: Candidate, tensors: Mapping[str, TensorQuant]) -> tuple[Candidate, WeightGrid, str]:
    """(candidate, its grid, ""), or the candidate without what these tensors and weights do not permit, and a phrase that says so."""
    candidate, lost = permitted(layer, candidate, tensors)
    grid = layer.fit(candidate, tensors)
    if grid is None:
        candidate, lost = replace(candidate, requantize="float"), "no power of two fits"
        grid = layer.fit(candidate, tensors)
    assert grid is not None, "a free multiplier always has a scale"
    return candidate, grid, lost


def permitted(layer: LayerFacts, candidate: Candidate, tensors: Mapping[str, TensorQuant]) -> tuple[Candidate, str]:
    """The candidate without what the layer's shape and tensors do not permit, and a phrase that says what was lost."""
    lost = []
    if candidate.requantize != "float" and not layer.stored:
        candidate = replace(candidate, requantize="float")  # nothing is requantized
    if candidate.nonuniform and not layer.fits_codebook:
        candidate = replace(candidate, nonuniform=False)
        lost.append("too many inputs for a codebook, whose sums might overflow")
    if not layer.allows(replace(candidate, requantize="float"), tensors):
        candidate = replace(candidate, accumulate16=0)
        lost.append(f"{layer.inner} channels do not divide into its blocks")
    if not layer.allows(candidate, tensors):
        candidate = replace(candidate, requantize="float")
        lost.append("its residual has another scale")
    return candidate, ", ".join(lost)
