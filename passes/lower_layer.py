"""Lower a convolution or dense island to one kernel with everything fused.

    acc = sum (q_x - z_x) q_w   is computed as   sum q_x q_w  with  -z_x sum q_w  inside the bias
                                (padding pads with z_x, so this holds at the edges)
    multiplier = s_x s_w / s_y  (s_x s_w where the result leaves in float: the network's output is never requantized)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tvm_rsq.passes.dataflow import Node
from tvm_rsq.passes.island_view import IslandView, LoweredCall, sides, static_attr
from tvm_rsq.targets.kernel_library import KernelLibrary
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue


def lower_layer(island: IslandView, params: Mapping[str, np.ndarray], library: KernelLibrary) -> LoweredCall:
    """The island's kernel and arguments.   params: parameter -> array (int8 weights, int32 biases; float32 for float layers)."""
    anchor = island.ops[0]
    data = island.view.operand(anchor.name, 0)
    weight_name = island.view.operand(anchor.name, 1)
    weight = params[weight_name]
    ohwi = weight.T.reshape(weight.shape[1], 1, 1, weight.shape[0]) if anchor.op == "matmul" else weight
    bias, residual = _addends(island, anchor)
    data_shape = _image(island.shape(data))
    quantized = island.kind != "float_layer"
    epilogue = _epilogue(island, residual, per_channel=quantized and np.ndim(island.affine(weight_name).scale) > 0)
    workload = Conv2DWorkload(
        **_geometry(anchor, data_shape, ohwi),
        in_dtype="uint8" if quantized else "float32",
        input_zero_point=island.affine(data).zero_point if quantized else 0,
        epilogue=epilogue,
    )
    kernel = library.conv2d(workload)
    out_shape = (workload.batch, workload.out_height, workload.out_width, workload.out_channels)
    bias_value = params[bias].reshape(-1) if bias else None
    arguments: list[str | np.ndarray] = [data, kernel.pack_weight(ohwi)]
    if quantized:
        arguments += [_folded_bias(bias_value, ohwi, workload.input_zero_point), _multiplier(island, data, weight_name)]
    else:
        arguments.append(bias_value if bias_value is not None else np.zeros(workload.out_channels, np.float32))
    shapes = {data: data_shape}
    if residual:
        shapes[residual] = out_shape
        arguments += [residual, _residual_affine(island, residual)] if quantized else [residual]
    return LoweredCall(
        kernel=kernel, arguments=tuple(arguments), shape=out_shape, dtype=epilogue.out, shapes=shapes, result_shape=island.out_shape
    )


def _image(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """NHWC of a convolution's input, or of a dense layer's (..., I): one pixel for each row."""
    return shape if len(shape) == 4 else (int(np.prod(shape[:-1])), 1, 1, shape[-1])  # type: ignore[return-value]


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


def _geometry(anchor: Node, data: tuple[int, int, int, int], ohwi: np.ndarray) -> dict[str, object]:
    batch, height, width, channels = data
    found: dict[str, object] = {
        "batch": batch, "height": height, "width": width, "in_channels": channels,
        "out_channels": ohwi.shape[0], "kernel": ohwi.shape[1:3],
    }  # fmt: skip
    if anchor.op == "nn.conv2d":
        attrs = anchor.expr.attrs
        found |= {
            "stride": static_attr(attrs.strides), "padding": sides(attrs.padding),
            "dilation": static_attr(attrs.dilation), "groups": int(attrs.groups),
        }  # fmt: skip
    return found


def _epilogue(island: IslandView, residual: str | None, *, per_channel: bool) -> Epilogue:
    output = island.output
    if output is None or island.kind == "float_layer":
        low, high = island.clamp()
        return Epilogue(out="float32", per_channel=per_channel, residual=residual is not None, low=low, high=high)
    qmin, qmax = island.quantized_clamp()
    zero = output.zero_point
    return Epilogue(out="uint8", per_channel=per_channel, residual=residual is not None, zero_point=zero, qmin=qmin, qmax=qmax)


def _folded_bias(bias: np.ndarray | None, ohwi: np.ndarray, input_zero_point: int) -> np.ndarray:
    correction = input_zero_point * ohwi.reshape(ohwi.shape[0], -1).sum(axis=1, dtype=np.int64)
    total = (0 if bias is None else bias.astype(np.int64)) - correction
    # Modulo 2^32, as the kernels add: the planner sees to it that the final sum fits (uniform.accumulator_scale_floor), and only
    # that counts.
    return (total & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def _multiplier(island: IslandView, data: str, weight: str) -> np.ndarray:
    scale = np.atleast_1d(np.asarray(island.affine(weight).scale, np.float64)) * float(island.affine(data).scale)
    return (scale / (1.0 if island.output is None else float(island.output.scale))).astype(np.float32)


def _residual_affine(island: IslandView, residual: str) -> np.ndarray:
    scale, zero, _ = island.affine(residual)
    out_scale, out_zero, _ = island.output or (1.0, 0, 255)
    ratio = float(scale) / float(out_scale)
    return np.array([ratio, out_zero - zero * ratio], np.float32)
