"""The arithmetic of the integer kernels on top of the QDQ network, value for value.

A QDQ network evaluated in float64 has every accumulator exactly (scale * integer). What it lacks is the kernels' one rounding to float32
in the requantization, which decides values close to a tie; a network of 50 layers amplifies each such value. So at the end of every
island the result is computed from the integers by the formulas of targets/workload.py and targets/workloads_elementwise.py:

    layer     q = clip(rne(fma(float32(acc), m, z)))           with a residual:  rne(fma(float32(acc), m, fma(float32(r), r0, r1)))
              or of the residual's own scale, by a shift, or by a 64-bit product: see Epilogue
    sum       q = clip(rne(fma(a, r0, fma(b, r1, r2))))        product:  q = clip(rne(float32(p) * m + z))
    mean      q = clip(rne(float32(acc) * (m / count) + z))    concat:   q = clip(rne(fma(q_i, r0, r1)))
    clamp, move, lookup: exact already

Written against the workloads' formulas, not the kernels: it is what the kernels are checked against, on whole networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from tvm_rsq.model import Model
from tvm_rsq.passes.dataflow import Dataflow, Node
from tvm_rsq.passes.find_islands import Island, find_islands
from tvm_rsq.passes.island_view import Affine, clamp_bounds, level, sides, static_attr
from tvm_rsq.passes.requantization import fixed_point


@dataclass
class IntegerReference:
    """An `observe` for Executor.run over a QDQ model in float64.   stored: tensor -> its uint8 values, filled by the run."""

    model: Model
    view: Dataflow = field(init=False)
    ends: dict[str, Island] = field(init=False)
    wanted: set[str] = field(init=False)
    sources: dict[str, str] = field(init=False)
    requantize: dict[str, str] = field(init=False)
    values: dict[str, torch.Tensor] = field(default_factory=dict)
    stored: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.view = view = Dataflow(self.model.module)
        weights = [view.operand(node.name, 1) or "" for node in view.nodes.values() if node.op in ("nn.conv2d", "matmul")]
        islands = find_islands(view, {w for w in weights if w in view.params and w not in view.quantization}).islands
        # Only what is requantized: a result that leaves in float has no rounding to reproduce, and the rest moves integers.
        self.ends = {i.output: i for i in islands if i.kind in _FORMULAS and i.output in view.quantization}
        self.wanted = {i.ops[0] for i in self.ends.values()}
        bindings = [binding for block in view.function.body.blocks for binding in block.bindings]
        noted = dict(view.function.attrs or {}).get("rsq.requantize", {})
        self.requantize = {str(layer): str(arithmetic) for layer, arithmetic in noted.items()}
        self.sources = {binding.var.name: view.source(binding.var) for binding in bindings}

    def __call__(self, name: str, value: torch.Tensor) -> torch.Tensor | None:
        if name in self.wanted:
            self.values[name] = value
        if value.dtype == torch.uint8:  # of the quantize, and of the clip behind it, which comes later
            self.stored[self.sources[name]] = value
        island = self.ends.get(name)
        if island is None:
            return None
        q = _FORMULAS[island.kind](self, island)
        scale, zero = self.affine(name)
        low, high = (self.level(name, bound) for bound in clamp_bounds(self.view.nodes[name]))
        return (q.clamp(low, high) - zero) * scale

    def affine(self, name: str) -> tuple[float, int]:
        scale, zero = self.view.quantization[name]
        return float(scale), int(zero.reshape(-1)[0])

    def level(self, name: str, bound: float) -> int:
        return level(bound, Affine(*self.affine(name), self.view.qmax.get(name, 255)))

    def integers(self, name: str) -> torch.Tensor:
        """q of a stored tensor."""
        return self.stored[name].to(torch.float64)


def _layer(ref: IntegerReference, island: Island) -> torch.Tensor:
    view, anchor = ref.view, ref.view.nodes[island.ops[0]]
    data, weight = view.variable(anchor.name, 0), view.variable(anchor.name, 1)
    scale = torch.from_numpy(np.atleast_1d(np.asarray(view.quantization[weight][0], np.float64))) * ref.affine(data)[0]
    added = view.operand(island.ops[1], 1) if len(island.ops) > 1 and view.nodes[island.ops[1]].op == "add" else None
    # The annotated bias is dequantized with float32(scale); both terms are exact multiples, so rounding finds the integers.
    acc = torch.round(ref.values.pop(anchor.name) / scale)
    if added is not None and view.is_param(added):
        bias = ref.model.params[added]
        acc = acc + torch.from_numpy(bias.astype(np.float64)).reshape(-1)
    residual = next((n for op in island.ops[1:] for n in view.nodes[op].operands if n in island.inputs), None)
    arithmetic = ref.requantize.get(weight, "float")
    return _REQUANTIZE[arithmetic](ref, acc, scale / ref.affine(island.output)[0], residual, island.output)


def _by_float(ref: IntegerReference, acc: torch.Tensor, effective: torch.Tensor, residual: str | None, output: str) -> torch.Tensor:
    (out_scale, out_zero), multiplier = ref.affine(output), _f32(effective)
    if residual is None:
        return torch.round(_f32(acc) * multiplier + out_zero)
    scale, zero = ref.affine(residual)
    if scale == out_scale:
        return torch.round(_f32(acc) * multiplier + (out_zero + ref.integers(residual) - zero))
    ratio = scale / out_scale
    r0, r1 = (_f32(torch.tensor(r, dtype=torch.float64)) for r in (ratio, out_zero - zero * ratio))
    return torch.round(_fma(_f32(acc), multiplier, _fma(ref.integers(residual), r0, r1)))


def _by_shift(ref: IntegerReference, acc: torch.Tensor, effective: torch.Tensor, residual: str | None, output: str) -> torch.Tensor:
    """Half up. The residual, if there is one, has the output's scale."""
    k = torch.round(-torch.log2(effective)).to(torch.int64)
    q = ((acc.to(torch.int64) + (1 << (k - 1))) >> k) + ref.affine(output)[1]
    return q.to(torch.float64) + (0 if residual is None else ref.integers(residual) - ref.affine(residual)[1])


def _by_fixed_point(ref: IntegerReference, acc: torch.Tensor, effective: torch.Tensor, residual: str | None, output: str) -> torch.Tensor:
    """Half up in 64 bits; the residual by a product of its own, unless it has the output's scale."""
    out_scale, out_zero = ref.affine(output)
    q = _scaled(acc.to(torch.int64), effective.numpy()) + out_zero
    if residual is not None:
        scale, zero = ref.affine(residual)
        real = ref.integers(residual).to(torch.int64) - zero
        q = q + (real if scale == out_scale else _scaled(real, np.array([scale / out_scale])))
    return q.to(torch.float64)


def _scaled(value: torch.Tensor, effective: np.ndarray) -> torch.Tensor:
    y, s = (torch.from_numpy(part.astype(np.int64)) for part in fixed_point(effective))
    return (value * y + (1 << (s - 1))) >> s


def _sum(ref: IntegerReference, island: Island) -> torch.Tensor:
    node = ref.view.nodes[island.ops[0]]
    (a, b), (out_scale, out_zero) = node.operands, ref.affine(island.output)
    (scale_a, zero_a), (scale_b, zero_b) = ref.affine(a), ref.affine(b)
    left, right = scale_a / out_scale, scale_b / out_scale * (-1 if node.op == "subtract" else 1)
    shift = out_zero - zero_a * left - zero_b * right
    r0, r1, r2 = (_f32(torch.tensor(r, dtype=torch.float64)) for r in (left, right, shift))
    return torch.round(_fma(ref.integers(a), r0, _fma(ref.integers(b), r1, r2)))


def _product(ref: IntegerReference, island: Island) -> torch.Tensor:
    a, b = ref.view.nodes[island.ops[0]].operands
    out_scale, out_zero = ref.affine(island.output)
    multiplier = _f32(torch.tensor(ref.affine(a)[0] * ref.affine(b)[0] / out_scale, dtype=torch.float64))
    product = (ref.integers(a) - ref.affine(a)[1]) * (ref.integers(b) - ref.affine(b)[1])
    return torch.round(_f32(product) * multiplier + out_zero)


def _mean(ref: IntegerReference, island: Island) -> torch.Tensor:
    node = ref.view.nodes[island.output]
    (data,) = node.operands
    scale, (out_scale, out_zero) = ref.affine(data)[0], ref.affine(island.output)
    count = _counts(ref.view, node, data)
    # What the hook of the float network left in place of the mean: scale * acc / count.
    acc = torch.round(ref.values.pop(island.output) / scale * count)
    ratio = _f32(_f32(torch.tensor(scale / out_scale, dtype=torch.float64)) / count)
    return torch.round(_f32(acc) * ratio + out_zero)


def _counts(view: Dataflow, node: Node, data: str) -> torch.Tensor:
    """How many values each mean is over: one number, or (OH, OW, 1) where it varies at the edges."""
    shape = view.shape(data)
    if node.op != "nn.avg_pool2d":
        out = np.prod(view.shape(node.name), dtype=np.int64)
        return torch.tensor(float(np.prod(shape, dtype=np.int64) / out), dtype=torch.float64)
    attrs = node.expr.attrs
    padding, out_size = sides(attrs.padding), view.shape(node.name)[1:3]
    counts = []
    for axis in range(2):
        kernel, stride, dilation = (static_attr(values)[axis] for values in (attrs.pool_size, attrs.strides, attrs.dilation))
        low, high = (-padding[axis], shape[1 + axis] + padding[2 + axis]) if attrs.count_include_pad else (0, shape[1 + axis])
        taps = np.arange(out_size[axis])[:, None] * stride - padding[axis] + np.arange(kernel) * dilation
        counts.append(((taps >= low) & (taps < high)).sum(axis=1))
    return torch.from_numpy(np.maximum(np.outer(*counts), 1).astype(np.float64)).unsqueeze(-1)


def _concat(ref: IntegerReference, island: Island) -> torch.Tensor:
    node, (out_scale, out_zero) = ref.view.nodes[island.output], ref.affine(island.output)
    qmax = ref.view.qmax.get(island.output, 255)
    parts = []
    for name in node.operands:
        (scale, zero), q = ref.affine(name), ref.integers(name)
        if (scale, zero) != (out_scale, out_zero):
            ratio = scale / out_scale
            r0, r1 = (_f32(torch.tensor(r, dtype=torch.float64)) for r in (ratio, out_zero - zero * ratio))
            q = torch.round(_fma(q, r0, r1))
        parts.append(q.clamp(0, qmax))
    return torch.cat(parts, dim=int(node.expr.attrs.axis))


def _f32(value: torch.Tensor) -> torch.Tensor:
    """The nearest float32, as float64."""
    return value.to(torch.float32).to(torch.float64)


def _fma(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """float32 fma of float32 values held in float64: the product is exact there."""
    return _f32(a * b + c)


_REQUANTIZE = {"float": _by_float, "shift": _by_shift, "fixed_point": _by_fixed_point}
_FORMULAS: Mapping[str, Callable[[IntegerReference, Island], torch.Tensor]] = {
    "conv2d": _layer, "dense": _layer, "sum": _sum, "product": _product, "mean": _mean, "concat": _concat,
}  # fmt: skip
