"""Make the plan: deploy-form network + calibration set + configuration -> QuantPlan.

ranges of every stored tensor -> sensitivity of every layer -> scheme of every layer (overrides last) -> scales.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Mapping

import numpy as np

from tvm_rsq.calibration import calibrate
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.choose_schemes import allowance, choose
from tvm_rsq.config import LAYER_SCHEMES, LayerOverride, QuantConfig
from tvm_rsq.errors import ConfigError
from tvm_rsq.executor import Executor, LayerStep
from tvm_rsq.model import Model
from tvm_rsq.passes import operator_roles as roles
from tvm_rsq.passes.dataflow import OUTPUT, Dataflow, Node
from tvm_rsq.passes.find_islands import Islands, find_islands
from tvm_rsq.passes.operator_roles import is_layer
from tvm_rsq.plan import FloatIsland, LayerPlan, QuantPlan, TensorQuant
from tvm_rsq.progress import ProgressCallback, silent
from tvm_rsq.sensitivity import LayerSensitivity, measure
from tvm_rsq.uniform import accumulator_scale_floor, bias_scale_floor, fake_quantize_weight, nmse, weight_scale

log = logging.getLogger(__name__)

INPUT_BITS = 8  # of the network's input: it comes from bytes, and one tensor of 8 bits costs nothing


def make_plan(model: Model, calibration: CalibrationSet, config: QuantConfig, progress: ProgressCallback = silent) -> QuantPlan:
    """The plan of `model` (deploy form).   ConfigError: an override that matches no layer. ModelError: a layer too wide for int32."""
    executor = Executor(model)
    view = Dataflow(model.module)
    overrides = resolve_overrides(config.overrides, layer_names(model))
    in_float = {name for name, override in overrides.items() if override.scheme == "float"}
    islands = find_islands(view, in_float)
    tensors = _activations(model, view, islands, calibration, config, overrides, executor, progress)
    bits = {layer.name: overrides.get(layer.name, LayerOverride()).weight_bits or config.weight_bits for layer in executor.layers}
    floors = _scale_floors(model, view, islands, executor, tensors)
    decided = {name for name, override in overrides.items() if override.scheme is not None}
    found: tuple[LayerSensitivity, ...] = ()
    if config.scheme == "hybrid" and (open_layers := [layer.name for layer in executor.layers if layer.name not in decided]):
        found = measure(
            model, calibration, tensors, weight_bits=config.weight_bits, bits_of_layer=bits, scale_floors=floors, layers=open_layers,
            executor=executor, progress=progress,
        )  # fmt: skip
    schemes = choose(found, allowance(found, config.budget), scheme=config.scheme) if found else {}
    kl = {sensitivity.layer: sensitivity for sensitivity in found}
    layers = []
    for layer in executor.layers:
        scheme, reason = schemes.get(layer.name, (config.scheme, f"{config.scheme} for every layer"))
        if (forced := overrides.get(layer.name, LayerOverride()).scheme) is not None:
            scheme, reason = forced, f"{forced} by override"
        layers.append(_layer_plan(model, view, islands, layer, scheme, bits[layer.name], tensors, floors, kl.get(layer.name), reason))  # type: ignore[arg-type]
    log.info("%d layers: %s", len(layers), {scheme: sum(found.scheme == scheme for found in layers) for scheme in LAYER_SCHEMES})
    return QuantPlan(
        network_hash=model.network_hash,
        layers=tuple(layers),
        tensors=tensors,
        float_islands=_float_islands(view, islands),
        provenance={
            "scheme": config.scheme, "weight_bits": config.weight_bits, "activation_bits": config.activation_bits, "budget": config.budget,
            "range_method": config.range_method, "effort": config.effort, "seed": config.seed, "calibration_source": calibration.source,
            "calibration_samples": len(calibration), "calibration_notes": list(calibration.notes),
        },
    )  # fmt: skip


def layer_names(model: Model) -> list[str]:
    """The names of a deploy-form network's layers, in execution order."""
    view = Dataflow(model.module)
    return [str(view.operand(node.name, 1)) for node in view.nodes.values() if is_layer(view, node)]


def resolve_overrides(overrides: Mapping[str, LayerOverride | str], layers: list[str]) -> dict[str, LayerOverride]:
    """Layer -> what the user said of it, later entries filling in and replacing.   ConfigError: a pattern that matches no layer."""
    resolved: dict[str, LayerOverride] = {}
    for pattern, override in overrides.items():
        # A name is matched as it stands first: names may hold brackets.
        matched = [pattern] if pattern in layers else fnmatch.filter(layers, pattern)
        if not matched:
            raise ConfigError(f"override {pattern!r} matches no layer; the layers are {', '.join(layers[:4])}, ... ({len(layers)} in all)")
        parsed = LayerOverride.parse(override) if isinstance(override, str) else override
        for name in matched:
            before = resolved.get(name, LayerOverride())
            resolved[name] = LayerOverride(
                scheme=parsed.scheme or before.scheme,
                weight_bits=parsed.weight_bits or before.weight_bits,
                activation_bits=parsed.activation_bits or before.activation_bits,
            )
    return resolved


def _activations(
    model: Model, view: Dataflow, islands: Islands, calibration: CalibrationSet, config: QuantConfig,
    overrides: Mapping[str, LayerOverride], executor: Executor, progress: ProgressCallback,
) -> dict[str, TensorQuant]:  # fmt: skip
    """Quantization of every stored tensor; what only moves values has the quantization of what it moves."""
    keeps = {island.output: island.inputs[0] for island in islands.islands if island.keeps_scale}
    own = [name for name in islands.quantized if name not in keeps]
    needed = dict.fromkeys(own + [_origin(name, keeps) for name in islands.quantized])
    bits = {spec.name: INPUT_BITS for spec in model.inputs}
    for island in islands.islands:
        if island.layer and (said := overrides.get(island.layer, LayerOverride()).activation_bits):
            bits[island.output] = said
    ranges = calibrate(
        model, calibration, list(needed), method=config.range_method, bits=config.activation_bits, executor=executor, progress=progress
    )
    found = ranges.quantize(config.activation_bits, bits)
    return {name: found[_origin(name, keeps)] for name in islands.quantized}


def _origin(name: str, keeps: Mapping[str, str]) -> str:
    while name in keeps:
        name = keeps[name]
    return name


def _layer_plan(
    model: Model, view: Dataflow, islands: Islands, layer: LayerStep, scheme: str, bits: int, tensors: Mapping[str, TensorQuant],
    floors: Mapping[str, np.ndarray], kl: LayerSensitivity | None, reason: str,
) -> LayerPlan:  # fmt: skip
    weight = model.params[layer.name]
    island = next(island for island in islands.islands if island.layer == layer.name)
    common = {
        "name": layer.name, "op": _operator(view, layer), "output": island.output, "macs": _macs(view, layer, weight), "reason": reason,
        "kl_per_tensor": kl.per_tensor if kl else None, "kl_per_channel": kl.per_channel if kl else None,
    }  # fmt: skip
    if scheme == "float":
        return LayerPlan(scheme="float", weight_bits=32, weight_bytes=weight.nbytes, **common)  # type: ignore[arg-type]
    axis, floor = layer.axis if scheme == "per_channel" else None, floors[layer.name]
    scale = weight_scale(weight, axis, bits, minimum=floor if axis is not None else float(floor.max()))
    error = nmse(weight, fake_quantize_weight(weight, scale, axis, bits)) if np.any(weight) else 0.0
    return LayerPlan(
        scheme=scheme, weight_scale=tuple(float(s) for s in scale), weight_bits=bits, weight_nmse=error,
        weight_bytes=-(-weight.size * bits // 8), **common,
    )  # type: ignore[arg-type]  # fmt: skip


def _scale_floors(
    model: Model, view: Dataflow, islands: Islands, executor: Executor, tensors: Mapping[str, TensorQuant]
) -> dict[str, np.ndarray]:
    """Layer -> the smallest weight scale of each channel with which its bias and its accumulator fit their int32; float layers left out."""
    island_of = {island.layer: island for island in islands.islands if island.layer and island.kind != "float_layer"}
    floors = {}
    for layer in executor.layers:
        if layer.name in island_of:
            bias, quant = bias_of(view, island_of[layer.name].ops), tensors[layer.input]
            value = None if bias is None else model.params[bias].reshape(-1)
            floor = accumulator_scale_floor(model.params[layer.name], layer.axis, value, quant)
            floors[layer.name] = floor if value is None else np.maximum(floor, bias_scale_floor(value, quant.scale))
    return floors


def bias_of(view: Dataflow, ops: tuple[str, ...]) -> str | None:
    """The bias parameter of a layer's island, None where it has none."""
    name = view.operand(ops[1], 1) if len(ops) > 1 and view.nodes[ops[1]].op == "add" else None
    return name if view.is_param(name) else None


def _operator(view: Dataflow, layer: LayerStep) -> str:
    node = view.nodes[layer.binding]
    if node.op == "matmul":
        return "dense"
    groups = int(node.expr.attrs.groups)
    return "depthwise_conv2d" if groups > 1 and groups == view.shape(layer.binding)[-1] else "conv2d"


def _macs(view: Dataflow, layer: LayerStep, weight: np.ndarray) -> int:
    out = view.shape(layer.binding)
    return int(np.prod(out[:-1], dtype=np.int64)) * weight.size


def _float_islands(view: Dataflow, islands: Islands) -> tuple[FloatIsland, ...]:
    return tuple(FloatIsland(name=name, op=view.nodes[name].op, reason=_why(view, islands, view.nodes[name])) for name in islands.float_ops)


def _why(view: Dataflow, islands: Islands, node: Node) -> str:
    has_kernel = node.op in roles.ELEMENTWISE | roles.CONCATS or roles.keeps_scale(node) or roles.is_spatial_mean(view, node)
    if not has_kernel:
        return f"{node.op} has no integer kernel"
    in_float = {OUTPUT, *islands.float_ops} | {op for island in islands.islands if island.kind == "float_layer" for op in island.ops}
    return "its result is only wanted in float" if in_float.issuperset(view.users[node.name]) else "its inputs are in float"
