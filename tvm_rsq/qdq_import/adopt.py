"""The plan of a network that was quantized elsewhere: its scales, its integers, no method of ours.

What the file leaves open, tensors between two of our kernels without a scale of their own, is calibrated as for any other network, and
said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tvm_rsq.calibration import calibrate
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import QuantConfig
from tvm_rsq.decide import Decided
from tvm_rsq.errors import ConfigError, ModelError
from tvm_rsq.executor import Executor
from tvm_rsq.float_islands import float_islands
from tvm_rsq.layer_facts import LayerFacts, layer_facts
from tvm_rsq.layer_record import LayerPlan
from tvm_rsq.model import Model
from tvm_rsq.origins import origins
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import Islands, find_islands
from tvm_rsq.plan import OF_THE_FILE, QuantPlan
from tvm_rsq.progress import Progress, ProgressCallback, silent
from tvm_rsq.qdq_import.match_tensors import Matched, match_tensors
from tvm_rsq.qdq_import.source_quantization import SourceQuantization, StoredWeight
from tvm_rsq.qdq_import.stored_grid import check_accumulators, stored_grid
from tvm_rsq.resolve_overrides import layer_names
from tvm_rsq.round_weights import nearest
from tvm_rsq.tensor_quant import TensorQuant
from tvm_rsq.weight_grid import stored_bytes

HONOURED = ("effort", "range_method", "requantize", "seed", "synthesis", "budget", "levers")
"""Fields of QuantConfig that mean something here: how what the file leaves open is calibrated. budget and levers decide nothing."""
_NAMED = 4  # tensors in a note


def check_config(config: QuantConfig) -> None:
    """ConfigError: it asks for another quantization than the file's."""
    default = QuantConfig()
    for name in (field for field in QuantConfig.__dataclass_fields__ if field not in HONOURED):
        if getattr(config, name) != getattr(default, name):
            raise ConfigError(
                f"{name} is {getattr(config, name)!r}, and the network brings its own quantization (QuantizeLinear nodes); leave it out, "
                "or quantize the float network"
            )


def adopt(
    deploy: Model, quantization: SourceQuantization, calibration: CalibrationSet, config: QuantConfig, progress: ProgressCallback = silent
) -> Decided:
    """deploy: the float network that the file stands for, in the form that is quantized; quantization: of the same file.

    ModelError: sums that int32 cannot hold, or no activation has a scale. UnsupportedError: scales that fit no output channels.
    """
    progress(Progress(stage="adopt", done=0, total=2, detail="finding the file's tensors"))
    matched = match_tensors(deploy, quantization)
    progress(Progress(stage="adopt", done=1, total=2, detail=f"{len(quantization.tensors)} scales"))
    view, executor = Dataflow(deploy.module), Executor(deploy)
    stored = {name: found for name in layer_names(deploy) if (found := _stored(quantization, name, deploy.params[name])) is not None}
    if not stored or not matched.found:
        what = "weights" if not stored else "activations"
        raise ModelError(f"the network has QuantizeLinear nodes, but none for its {what}; quantize both, or give the float network")
    islands = find_islands(view, set(layer_names(deploy)) - stored.keys())
    tensors, open_names = _tensors(deploy, view, islands, matched, calibration, config, executor, progress)
    facts = layer_facts(deploy, executor, view, islands, dict.fromkeys(layer_names(deploy), 8))
    layers: list[LayerPlan] = []
    saturated: dict[str, int] = {}
    for layer in facts:
        made, count = _layer(layer, stored.get(layer.name), tensors, config)
        layers.append(made)
        if count:
            saturated[layer.name] = count
    unused = [name for name, same in matched.tensors.items() if not tensors.keys() & same]
    overruled = [name for name, same in matched.tensors.items() if _differs(quantization.tensors[name], tensors, same)]
    twice = list(dict.fromkeys((*quantization.twice, *matched.twice, *overruled)))
    notes = _notes(len(matched.tensors), unused, twice, open_names, saturated)
    plan = QuantPlan(
        network_hash=deploy.network_hash, layers=tuple(layers), tensors=tensors, float_islands=float_islands(view, islands),
        provenance={
            "scheme": OF_THE_FILE, "requantize": config.requantize,
            **(_calibrated(calibration, config) if open_names else {}), "notes": notes,
        },
    )  # fmt: skip
    progress(Progress(stage="adopt", done=2, total=2, detail=f"{len(layers)} layers"))
    return Decided(plan=plan, adjusted=nearest(deploy, plan))


def _calibrated(calibration: CalibrationSet, config: QuantConfig) -> dict[str, Any]:
    return {
        "range_method": config.range_method, "seed": config.seed,
        "calibration_source": calibration.source, "calibration_samples": len(calibration), "calibration_notes": list(calibration.notes),
    }  # fmt: skip


def _stored(quantization: SourceQuantization, layer: str, weight: np.ndarray) -> StoredWeight | None:
    """Of a layer; a weight that several forms are made of has a number behind its name (see fold_params)."""
    if (found := quantization.weights.get(layer)) is not None:
        return found
    found = quantization.weights.get(re.sub(r"\.\d+$", "", layer))
    return found if found is not None and found.integers.size == weight.size else None


def _differs(quant: TensorQuant, tensors: Mapping[str, TensorQuant], same: tuple[str, ...]) -> bool:
    """Whether a stored tensor that holds the values has another quantization."""
    return any(name in tensors and tensors[name] != quant for name in same)


def _tensors(
    model: Model, view: Dataflow, islands: Islands, matched: Matched, calibration: CalibrationSet, config: QuantConfig, executor: Executor,
    progress: ProgressCallback,
) -> tuple[dict[str, TensorQuant], list[str]]:  # fmt: skip
    """Of every stored tensor, and the names of those that were calibrated."""
    found = matched.found
    moved = {island.output: island.inputs[0] for island in islands.islands if island.keeps_scale}
    root = {name: _root(name, moved) for name in islands.quantized}
    groups: dict[str, list[str]] = {}
    for name in islands.quantized:
        groups.setdefault(root[name], []).append(name)
    known: dict[str, TensorQuant] = {}
    for name, members in groups.items():
        word = next((found[each] for each in (name, *members) if each in found), None)
        if word is not None:
            known[name] = word
    shared = origins(view, islands, [spec.name for spec in model.inputs])
    for name in groups:
        if name not in known and (other := root.get(shared[name], shared[name])) in known:
            known[name] = known[other]
    missing = [name for name in groups if name not in known]
    if missing:
        ranges = calibrate(model, calibration, missing, method=config.range_method, executor=executor, progress=progress)
        known |= ranges.quantize(8)
    return {name: known[root[name]] for name in islands.quantized}, missing


def _root(name: str, moved: dict[str, str]) -> str:
    while name in moved:
        name = moved[name]
    return name


def _layer(
    layer: LayerFacts, stored: StoredWeight | None, tensors: dict[str, TensorQuant], config: QuantConfig
) -> tuple[LayerPlan, int]:  # fmt: skip
    """And how many of its weights are moved from -128 to -127."""
    if layer.in_float or stored is None:
        made = LayerPlan(
            name=layer.name, op=layer.op, output=layer.output, macs=layer.macs, scheme="float", weight_bits=32,
            weight_bytes=layer.weight.nbytes, reason="its weight or its input is not quantized in the file",
        )  # fmt: skip
        return made, 0
    found = stored_grid(layer.name, layer.weight, layer.axis, stored)
    grid, source = found.grid, tensors[layer.input]
    integers = grid.integers(layer.weight, layer.axis)
    bias = None if layer.bias is None else layer.bias.astype(np.float64) / (grid.scale.astype(np.float64) * source.scale)
    check_accumulators(layer.name, integers, layer.axis, bias, max(source.zero_point, 2**source.bits - 1 - source.zero_point))
    per_channel = grid.scale.size > 1
    made = LayerPlan(
        name=layer.name, op=layer.op, output=layer.output, macs=layer.macs, scheme="per_channel" if per_channel else "per_tensor",
        weight_scale=tuple(grid.scale.tolist()), weight_bits=grid.bits, weight_nmse=0.0,
        weight_bytes=stored_bytes(layer.weight.size, grid.bits), requantize=config.requantize if layer.stored else "float",
        codebook=() if grid.books is None else tuple(tuple(book) for book in grid.books.tolist()),
        reason="scales of the file" + (f", {found.saturated} weights of -128 become -127" if found.saturated else ""),
    )  # fmt: skip
    return made, found.saturated


def _notes(scales: int, unused: list[str], twice: list[str], open_names: list[str], saturated: dict[str, int]) -> list[str]:
    notes = ["quantized elsewhere: scales and integers are those of the file"]
    if unused:
        what = "belong to no tensor that is stored, but to values inside kernels and to outputs in float, which are not rounded"
        notes.append(f"{len(unused)} of the file's {scales} activation scales {what}: {_some(unused)}")
    if twice:
        notes.append(f"{_counted(len(twice), 'value has', 'values have')} several scales in the file, of which one is used: {_some(twice)}")
    if open_names:
        what = _counted(len(open_names), "tensor has", "tensors have")
        notes.append(f"{what} no scale in the file, calibrated: {_some(open_names)}")
    if saturated:
        notes.append(f"{sum(saturated.values())} weights of -128 became -127, in {len(saturated)} layers: {_some(list(saturated))}")
    return notes


def _counted(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")

