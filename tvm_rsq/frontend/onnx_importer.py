"""TVM's ONNX importer, with our translations where its own hide an operator in TIR or change its meaning, and errors that name the node.

TVM's importer turns Clip and Pad into calls of TIR functions, Sum into stack and sum, Gemm's alpha into a product with the activation,
pads an even local response normalization on the wrong side, and lets Resize round sizes that the scales do not give.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm.error
from tvm import relax
from tvm.ir import IRModule
from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter

from tvm_rsq.errors import ModelError, UnsupportedError
from tvm_rsq.frontend.onnx_graph import Graph, describe
from tvm_rsq.frontend.slicing import slice_as_split
from tvm_rsq.passes.rewrite_bindings import static_shape

_TRANSLATION_ERRORS = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    TypeError,
    ValueError,
    tvm.error.InternalError,
)
_COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")


class OnnxImporter(ONNXGraphImporter):  # type: ignore[misc]  # TVM has no types
    """One graph -> IRModule.   OnnxImporter(graph).run()"""

    def __init__(self, graph: Graph) -> None:
        super().__init__({}, "float32", keep_params_in_input=True, sanitize=False)
        self._graph = graph
        self._by_output = {node.output[0]: describe(node) for node in graph.nodes}
        self._ours: dict[str, Callable[[list[Any], dict[str, Any]], relax.Expr]] = {
            "Clip": self._clip, "Gemm": self._gemm, "HardSigmoid": self._hard_sigmoid, "LRN": self._local_response_norm,
            "Max": lambda inputs, attrs: self._chain(relax.op.maximum, inputs),
            "Min": lambda inputs, attrs: self._chain(relax.op.minimum, inputs),
            "Neg": self._negate, "Pad": self._pad, "Resize": self._resize, "Slice": self._slice,
            "Sum": lambda inputs, attrs: self._chain(relax.op.add, inputs), "Upsample": self._upsample,
        }  # fmt: skip

    def run(self) -> tuple[IRModule, int, dict[str, np.ndarray]]:
        """The module, its number of inputs and the parameters by name.

        UnsupportedError: an operator's form, with the node. ModelError: the graph does not hold together.
        """
        model = self._graph.to_model()
        for node in model.graph.node:
            node.name = self._by_output[node.output[0]]  # what _convert_operator is told
        with contextlib.redirect_stdout(io.StringIO()):  # the base class prints before it raises
            try:
                module = self.from_onnx(model.graph, self._graph.opset)
            except _TRANSLATION_ERRORS as error:  # outside of any node's conversion
                raise ModelError(f"the ONNX graph cannot be imported ({' '.join(str(error).split())}); export it again") from error
        params = {name: array.numpy() for name, (_var, array) in self._params.items()}
        return module, self._num_input, params

    def _convert_operator(self, op_name: str, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
        node = attrs["tvm_custom"]["name"]
        try:
            if op_name in self._ours:
                return self.bb.normalize(self._ours[op_name](list(inputs), attrs))
            return super()._convert_operator(op_name, inputs, attrs, opset)
        except UnsupportedError as error:
            raise UnsupportedError(f"{node}: {error}") from error
        except _TRANSLATION_ERRORS as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise UnsupportedError(f"{node} uses a form of this operator that tvm_rsq does not support ({reason})") from error

    def _constant(self, inputs: list[Any], index: int) -> np.ndarray | None:
        """The value of an optional operand. UnsupportedError: it is computed at run time."""
        if index >= len(inputs) or inputs[index] is None:
            return None
        operand = inputs[index]
        if isinstance(operand, relax.Var) and operand.name in self._params:
            return self._params[operand.name][1].numpy()
        raise UnsupportedError(f"operand {index} is computed at run time, expected a constant")

    def _clip(self, inputs: list[Any], attrs: dict[str, Any]) -> relax.Expr:
        bounds = []
        for index, (name, unbounded) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
            value = self._constant(inputs, index)
            value = attrs.get(name, unbounded) if value is None else value.item()
            bounds.append(unbounded if np.isnan(value) else float(value))
        return relax.op.clip(inputs[0], *bounds)

    def _gemm(self, inputs: list[Any], attrs: dict[str, Any]) -> relax.Expr:
        x, weight, bias = (*inputs, None)[:3]
        x = relax.op.permute_dims(x, [1, 0]) if attrs.get("transA", 0) else x
        weight = relax.op.permute_dims(weight, [1, 0]) if attrs.get("transB", 0) else weight
        if attrs.get("alpha", 1.0) != 1.0:
            weight = relax.op.multiply(weight, relax.const(attrs["alpha"], "float32"))
        product = relax.op.matmul(x, weight)
        if bias is None or attrs.get("beta", 1.0) == 0.0:
            return product
        if attrs.get("beta", 1.0) != 1.0:
            bias = relax.op.multiply(bias, relax.const(attrs["beta"], "float32"))
        return relax.op.add(product, bias)

    def _hard_sigmoid(self, inputs: list[Any], attrs: dict[str, Any]) -> relax.Expr:
        alpha, beta = attrs.get("alpha", 0.2), attrs.get("beta", 0.5)
        if np.float32(alpha) == np.float32(1 / 6) and beta == 0.5:  # torch's, in the form that torch programs and HardSwish arrive in
            shifted = relax.op.clip(relax.op.add(inputs[0], relax.const(3.0, "float32")), 0.0, 6.0)
            return relax.op.divide(shifted, relax.const(6.0, "float32"))
        scaled = relax.op.multiply(inputs[0], relax.const(alpha, "float32"))
        return relax.op.clip(relax.op.add(scaled, relax.const(beta, "float32")), 0.0, 1.0)

    def _local_response_norm(self, inputs: list[Any], attrs: dict[str, Any]) -> relax.Expr:
        x, size = inputs[0], attrs["size"]
        front = (size - 1) // 2
        squares = relax.op.expand_dims(relax.op.multiply(x, x), 1)
        pads = [front, 0, 0, size - 1 - front, 0, 0]
        mean = relax.op.nn.avg_pool3d(squares, (size, 1, 1), (1, 1, 1), pads, count_include_pad=True, layout="NCDHW")
        scaled = relax.op.multiply(relax.op.squeeze(mean, [1]), relax.const(attrs.get("alpha", 1e-4), "float32"))
        base = relax.op.add(scaled, relax.const(attrs.get("bias", 1.0), "float32"))
        return relax.op.divide(x, relax.op.power(base, relax.const(attrs.get("beta", 0.75), "float32")))

    def _negate(self, inputs: list[Any], attrs: dict[str, Any]) -> relax.Expr:
        return relax.op.multiply(inputs[0], relax.const(-1.0, "float32"))

    def _pad(self, inputs: list[Any], attrs: dict[str, Any]) -> relax.Expr:
        mode = attrs.get("mode", b"constant").decode()
        if mode != "constant":
            raise UnsupportedError(f"pad mode {mode}, expected constant")
        pads = self._constant(inputs, 1)
        if pads is None:
            pads = np.array(attrs["pads"])
        value = self._constant(inputs, 2)
        given = self._constant(inputs, 3)
        rank = inputs[0].ty.ndim
        axes = range(rank) if given is None else [int(axis) % rank for axis in given]
        width = [0] * (2 * rank)
        for axis, before, after in zip(axes, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
            width[2 * axis : 2 * axis + 2] = [int(before), int(after)]
        if min(width) < 0:
            raise UnsupportedError(f"negative pads {width}, expected pads of at least 0")
        return relax.op.nn.pad(inputs[0], width, "constant", float(attrs.get("value", 0.0) if value is None else value.item()))

    def _resize(self, inputs: list[Any], attrs: dict[str, Any]) -> relax.Expr:
        x = inputs[0]
        if self._graph.opset < 11:
            return self._upsample(inputs, attrs)
        scales, sizes, axes = self._constant(inputs, 2), self._constant(inputs, 3), attrs.get("axes")
        policy = attrs.get("keep_aspect_ratio_policy", b"stretch").decode()
        if policy != "stretch" or attrs.get("antialias", 0):
            raise UnsupportedError("antialias and aspect ratio policies cannot be imported; resize with plain sizes")
        shape = static_shape(x)
        chosen = sizes if sizes is not None and len(sizes) else scales
        if chosen is None:
            raise UnsupportedError("neither scales nor sizes, expected one of them; export the network again")
        full: list[Any] = list(shape) if chosen is sizes else [1.0] * len(shape)
        for axis, value in zip(range(len(shape)) if axes is None else axes, chosen, strict=True):
            full[axis] = value.item()
        if chosen is not sizes:
            full = self._scaled(shape, full)
        coordinates = attrs.get("coordinate_transformation_mode", b"half_pixel").decode()
        return self._resize2d(x, full, attrs, coordinates, attrs.get("nearest_mode", b"round_prefer_floor").decode())

    def _upsample(self, inputs: list[Any], attrs: dict[str, Any]) -> relax.Expr:
        scales = self._constant(inputs, 1)
        scales = attrs["scales"] if scales is None else scales
        return self._resize2d(inputs[0], self._scaled(static_shape(inputs[0]), scales), attrs, "asymmetric", "floor")

    def _scaled(self, shape: tuple[int, ...], scales: Any) -> list[int]:
        exact = [extent * float(scale) for extent, scale in zip(shape, scales, strict=True)]
        if any(abs(value - round(value)) > 1e-4 for value in exact):
            raise UnsupportedError(f"scales {[float(scale) for scale in scales]} do not give whole sizes from {list(shape)}; use sizes")
        return [round(value) for value in exact]

    def _resize2d(self, x: relax.Expr, size: list[int], attrs: dict[str, Any], coordinates: str, rounding: str) -> relax.Expr:
        mode = attrs.get("mode", b"nearest").decode()
        if mode not in ("nearest", "linear") or coordinates not in _COORDINATES:
            raise UnsupportedError(
                f"mode {mode} with {coordinates} coordinates, expected nearest or linear with one of {list(_COORDINATES)}"
            )
        if len(size) != 4 or tuple(size[:2]) != static_shape(x)[:2]:
            raise UnsupportedError(
                f"resize from {list(static_shape(x))} to {list(size)}, expected only height and width of an image to change"
            )
        method = "nearest_neighbor" if mode == "nearest" else "linear"
        return relax.op.image.resize2d(
            x, tuple(int(s) for s in size[2:]), layout="NCHW", method=method, coordinate_transformation_mode=coordinates,
            rounding_method=rounding if mode == "nearest" else "",
        )  # fmt: skip

    def _slice(self, inputs: list[Any], attrs: dict[str, Any]) -> relax.Expr:
        if self._graph.opset < 10:
            starts, ends, axes, steps = attrs["starts"], attrs["ends"], attrs.get("axes"), None
        else:
            starts, ends, axes, steps = (self._constant(inputs, index) for index in range(1, 5))
        x = inputs[0]
        axes = range(len(starts)) if axes is None else axes
        for number, (axis, start, end) in enumerate(zip(axes, starts, ends, strict=True)):
            x = slice_as_split(self.bb, x, int(axis), int(start), int(end), 1 if steps is None else int(steps[number]))
        return x

    def _chain(self, operator: Callable[..., relax.Expr], inputs: list[Any]) -> relax.Expr:
        result = inputs[0]
        for operand in inputs[1:]:
            result = operator(result, operand)
        return result
