"""Lower a convolution or dense island to one kernel with everything fused.

    acc = sum (q_x - z_x) q_w   is computed as   sum q_x q_w  with  -z_x sum q_w  inside the bias, q_x and z_x as they are stored
                                (padding pads with z_x, so this holds at the edges)
    multiplier = s_x s_w / s_y  (s_x s_w where the result leaves in float: the network's output is never requantized)
How that multiplier is applied, and what the weights promise, is the plan's to say: see requantization.py and targets/workload.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tvm_rsq.passes.dataflow import Node
from tvm_rsq.passes.island_view import Expanded, IslandView, LoweredCall, nhwc, pair, sides
from tvm_rsq.passes.lower_codebook import code_bits, lower_codebook, lower_levels
from tvm_rsq.passes.requantization import BOUNDED, SHORT, fixed_point, folded_bias, is_bounded, largest_total, multiplier
from tvm_rsq.safe_weights import keeps_promise
from tvm_rsq.sum_groups import fits
from tvm_rsq.targets.carrier import offset
from tvm_rsq.targets.kernel_library import KernelLibrary
from tvm_rsq.targets.workload import Accumulate16, Conv2DWorkload, Epilogue


def lower_layer(island: IslandView, params: Mapping[str, np.ndarray], library: KernelLibrary) -> LoweredCall:
    """The island's kernel and arguments.   params: parameter -> array (int8 weights, int32 biases; float32 for float layers).

    ValueError: the layer was granted what its scales or weights do not fit (see `layer_workload`).
    """
    layer = _Layer(island, params)
    workload = layer.workload()
    kernel = library.conv2d(workload)
    shape = workload.out_shape
    if island.levels is None:
        weight = lower_codebook(kernel, layer.ohwi, island.books, library)
    else:
        weight = lower_levels(kernel, layer.ohwi, island.levels, library)
    arguments: list[str | np.ndarray | Expanded] = [layer.data, *weight, *layer.constants(workload.epilogue)]
    shapes: dict[str, tuple[int, ...]] = {layer.data: layer.image}
    if layer.residual:
        shapes[layer.residual] = (*shape[:-1], workload.out_channels)
        arguments += [layer.residual, *layer.residual_constants(workload.epilogue)]
    return LoweredCall(
        kernel=kernel, arguments=tuple(arguments), shape=shape, dtype=workload.epilogue.out, shapes=shapes,
        result_shape=shape if island.part else island.out_shape, whole=island.part.whole if island.part else None,
    )  # fmt: skip


def layer_workload(island: IslandView, params: Mapping[str, np.ndarray]) -> Conv2DWorkload:
    """What `lower_layer` asks the library for.

    ValueError: "shift" without powers of two or over a residual of another scale, or weights that break the promise of accumulate16.
    """
    return _Layer(island, params).workload()


class _Layer:
    """The parts of a convolution or dense island."""

    def __init__(self, island: IslandView, params: Mapping[str, np.ndarray]) -> None:
        self.island, self.anchor = island, island.ops[0]
        self.data, self.weight = island.view.variable(self.anchor.name, 0), island.view.variable(self.anchor.name, 1)
        weight = params[self.weight]
        self.ohwi = weight.T.reshape(weight.shape[1], 1, 1, weight.shape[0]) if self.anchor.op == "matmul" else weight
        bias, self.residual = _addends(island, self.anchor)
        self.bias = params[bias].reshape(-1) if bias else None
        self.image = _image(island.shape(self.data))
        self.quantized = island.kind != "float_layer"

    def workload(self) -> Conv2DWorkload:
        geometry = _geometry(self.anchor, self.image, self.ohwi)
        if not self.quantized:
            return replace(geometry, in_dtype="float32", epilogue=self._float_epilogue())
        return replace(
            geometry,
            in_dtype=self.island.carrier,
            input_zero_point=self.island.affine(self.data).zero_point,
            accumulate16=self._promised(),
            # Kernels that look codes up themselves have one table.
            code_bits=code_bits(self.island.books[0]) if len(self.island.books) == 1 else 0,
            epilogue=self._epilogue() if self.island.output else self._float_epilogue(),
            out_pitch=self.island.part.pitch if self.island.part else 0,
            out_offset=self.island.part.offset if self.island.part else 0,
        )

    @property
    def effective(self) -> np.ndarray:
        """float64 (n,): s_x s_w / s_y, or s_x s_w."""
        scale = np.atleast_1d(np.asarray(self.island.affine(self.weight).scale, np.float64)) * float(self.island.affine(self.data).scale)
        return scale / (1.0 if self.island.output is None else float(self.island.output.scale))

    def constants(self, e: Epilogue) -> list[np.ndarray]:
        """Bias and multiplier; of a float layer the bias alone."""
        if not self.quantized:
            return [self.bias if self.bias is not None else np.zeros(self.ohwi.shape[0], np.float32)]
        given = multiplier(self.effective, e.requantize)
        shift = (given, e.zero_point - e.residual_zero_point) if e.requantize == "shift" else ()
        stored_zero = self.island.affine(self.data).zero_point - offset(self.island.carrier)
        return [folded_bias(self.bias, self.ohwi, stored_zero, *shift), given]

    def residual_constants(self, e: Epilogue) -> list[np.ndarray]:
        """residual_affine, where the kernel takes one."""
        if not self.quantized or e.shared_residual or self.residual is None:
            return []
        scale, zero, _ = self.island.affine(self.residual)
        out_scale, out_zero, _ = self.island.output or (1.0, 0, 255)
        ratio = float(scale) / float(out_scale)
        if e.requantize == "fixed_point":
            return [fixed_point(np.array([ratio]))[:, 0]]
        return [np.array([ratio, out_zero - zero * ratio], np.float32)]

    def _promised(self) -> Accumulate16:
        d, inner, rows = self.island.accumulate16, self.ohwi.shape[-1], self.ohwi.reshape(self.ohwi.shape[0], -1)
        if d and not (fits(inner, rows.shape[1], d) and keeps_promise(rows, d, inner)):
            raise ValueError(
                f"the weights of {self.weight} (runs of {inner} channels) do not keep the promise of accumulate16={d}; make the plan again"
            )
        return d

    def _float_epilogue(self) -> Epilogue:
        if self.island.requantize == "shift":
            raise ValueError(f"layer {self.weight} leaves in float and cannot requantize by a shift; make the plan again")
        low, high = self.island.clamp()
        return Epilogue(out="float32", per_channel=self._per_channel, residual=self.residual is not None, low=low, high=high)

    def _epilogue(self) -> Epilogue:
        island, arithmetic, output = self.island, self.island.requantize, self.island.stored
        source = island.affine(self.data)
        residual = island.affine(self.residual) if self.residual else None
        shared = residual is not None and residual.scale == output.scale
        if arithmetic == "shift" and residual is not None and not shared:
            raise ValueError(f"layer {self.weight} requantizes by a shift and adds a residual of another scale; make the plan again")
        # What a residual in units of the output adds to |q|, at most; and both zero points.
        others = 255.0 + (0 if residual is None else 255 * (float(residual.scale) / float(output.scale) + 1))
        largest = largest_total(self.bias, self.ohwi, source.zero_point, source.qmax)
        qmin, qmax = island.quantized_clamp()
        return Epilogue(
            out=island.carrier, requantize=arithmetic, per_channel=self._per_channel,
            residual=residual is not None, shared_residual=shared,
            # Otherwise it is inside residual_affine.
            residual_zero_point=residual.zero_point if residual is not None and (shared or arithmetic == "fixed_point") else 0,
            zero_point=output.zero_point, qmin=qmin, qmax=qmax,
            bounded=is_bounded(largest, self.effective, others, BOUNDED), short=is_bounded(largest, self.effective, others, SHORT),
        )  # fmt: skip

    @property
    def _per_channel(self) -> bool:
        return self.quantized and np.ndim(self.island.affine(self.weight).scale) > 0


def _image(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """NHWC of a convolution's input, or of a dense layer's (..., I): one pixel for each row."""
    return nhwc(shape) if len(shape) == 4 else (int(np.prod(shape[:-1])), 1, 1, shape[-1])


def _addends(island: IslandView, anchor: Node) -> tuple[str | None, str | None]:
    """The bias parameter and the residual tensor, each None where there is none."""
    bias = residual = None
    tail = anchor.name
    for node in island.ops:
        if node.op != "add" or tail not in node.operands:
            continue
        other = next(name for name in node.operands if name != tail)
        is_bias = island.shape(other) != island.shape(tail) or str(island.view.types[other].dtype) == "int32"
        bias, residual = (other, residual) if is_bias else (bias, other)
        tail = node.name
    return bias, residual


def _geometry(anchor: Node, data: tuple[int, int, int, int], ohwi: np.ndarray) -> Conv2DWorkload:
    """The convolution without types and epilogue."""
    batch, height, width, channels = data
    found = Conv2DWorkload(
        batch=batch, height=height, width=width, in_channels=channels, out_channels=ohwi.shape[0], kernel=pair(ohwi.shape[1:3])
    )  # fmt: skip
    if anchor.op != "nn.conv2d":
        return found
    attrs = anchor.expr.attrs
    return replace(
        found, stride=pair(attrs.strides), padding=sides(attrs.padding), dilation=pair(attrs.dilation), groups=int(attrs.groups)
    )  # fmt: skip
