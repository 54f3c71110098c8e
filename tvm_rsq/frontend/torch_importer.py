"""TVM's importer for torch.export programs, driven so that names survive and every refusal names its node.

Three things differ from `tvm.relax.frontend.torch.from_exported_program`: parameters and buffers are inputs called by their
names in the module ("features.0.weight", batch norm statistics included); a few operators are translated here, where TVM's
translation is not faithful or leaves dead values behind; what fails is reported with the operator and the module it belongs to.
Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import tvm.error
from torch import fx
from tvm import relax
from tvm.ir import IRModule
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from tvm_rsq.errors import UnsupportedError
from tvm_rsq.frontend.operators import TORCH_OPERATORS
from tvm_rsq.frontend.slicing import slice_as_split

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


class TorchImporter(ExportedProgramImporter):  # type: ignore[misc]  # TVM has no types
    """One program -> IRModule.   TorchImporter().run(program)"""

    def run(self, program: torch.export.ExportedProgram) -> tuple[IRModule, list[str]]:
        """The imported module, inputs first, and the names of the runtime inputs. UnsupportedError: an operator, with its node."""
        self.update_convert_map({name: self._naming_node(convert) for name, convert in (self.convert_map | self._ours()).items()})
        named, inputs, _ranges = self.create_input_vars(program)
        targets = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs}
        named = {arg: relax.Var(targets[arg], var.ty) for arg, var in named.items()}
        self.block_builder = relax.BlockBuilder()
        with self.block_builder.function("main", [*inputs.values(), *named.values()]):
            with self.block_builder.dataflow():
                outputs = self._translate_fx_graph(program.graph_module, program.graph.nodes, inputs | named)
                result = self.block_builder.emit_output(outputs[0] if len(outputs) == 1 else relax.Tuple(outputs))
            self.block_builder.emit_func_output(result)
        return self.block_builder.get(), [var.name for var in inputs.values()]

    def _naming_node(self, convert: Callable[[fx.Node], Any]) -> Callable[[fx.Node], Any]:
        def converted(node: fx.Node) -> Any:
            try:
                return convert(node)
            except UnsupportedError as error:
                raise error if f"(node {node.name}" in str(error) else UnsupportedError(f"{describe(node)}: {error}") from error
            except _TRANSLATION_ERRORS as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                raise UnsupportedError(f"{describe(node)} uses a form of this operator that tvm_rsq does not support ({reason})") from error

        return converted

    def _ours(self) -> dict[str, Callable[[fx.Node], Any]]:
        return {
            "convolution.default": self._plain_convolution,
            "max_pool2d_with_indices.default": self._max_pool2d_without_indices,
            "avg_pool2d.default": self._plain_avg_pool2d,
            "adaptive_max_pool2d.default": self._adaptive_max_pool2d,
            "amax.default": self._amax,
            "slice.Tensor": self._contiguous_slice,
            "neg.default": lambda node: self.block_builder.emit(relax.op.multiply(self.env[node.args[0]], relax.const(-1.0, "float32"))),
            "upsample_nearest2d.vec": self._nearest,
            "upsample_bilinear2d.vec": self._bilinear,
        }

    def _plain_convolution(self, node: fx.Node) -> relax.Expr:
        if node.args[6]:
            raise UnsupportedError(f"{describe(node, 'transposed convolution')} is not supported; use resize followed by conv2d")
        dimensions = self.env[node.args[0]].ty.ndim - 2
        if dimensions not in (1, 2):
            raise UnsupportedError(
                f"{describe(node, f'{dimensions}-dimensional convolution')} is not supported, expected one or two dimensions"
            )
        return self._convolution(node)

    def _max_pool2d_without_indices(self, node: fx.Node) -> tuple[relax.Expr, ...]:
        args = self.retrieve_args(node)
        stride = args[2] if len(args) > 2 else None
        return (self._max_pool2d_impl(args[0], args[1], stride, *args[3:6]),)  # getitem 1, the indices, fails by IndexError

    def _plain_avg_pool2d(self, node: fx.Node) -> relax.Expr:
        if len(node.args) > 6 and node.args[6] is not None:
            raise NotImplementedError("divisor_override")
        return self._avg_pool2d(node)

    def _adaptive_max_pool2d(self, node: fx.Node) -> tuple[relax.Expr, ...]:
        x, sizes = self.retrieve_args(node)
        extents = [int(extent) for extent in self.shape_of(x)][2:]
        if any(extent % size for extent, size in zip(extents, sizes, strict=True)):
            raise NotImplementedError(f"output size {list(sizes)} does not divide {extents}")
        window = [extent // size for extent, size in zip(extents, sizes, strict=True)]
        return (self.block_builder.emit(relax.op.nn.max_pool2d(x, window, window)),)

    def _contiguous_slice(self, node: fx.Node) -> relax.Expr:
        args, defaults = list(self.retrieve_args(node)), [0, 0, None, 1]
        x, axis, start, stop, step = args + defaults[len(args) - 1 :]
        return slice_as_split(self.block_builder, x, axis, start or 0, stop, step)

    def _amax(self, node: fx.Node) -> relax.Expr:
        args = self.retrieve_args(node)
        return self.block_builder.emit(relax.op.max(args[0], args[1] or None, keepdims=bool(args[2]) if len(args) > 2 else False))

    def _nearest(self, node: fx.Node) -> relax.Expr:
        x, size, factors = (*node.args, None, None)[:3]
        return self._resize(self.env[x], size, factors, "nearest_neighbor", "asymmetric", "floor")

    def _bilinear(self, node: fx.Node) -> relax.Expr:
        x, size, corners, factors = (*node.args, None)[:4]
        return self._resize(self.env[x], size, factors, "linear", "align_corners" if corners else "half_pixel", "")

    def _resize(self, x: relax.Expr, size: Any, factors: Any, method: str, coordinates: str, rounding: str) -> relax.Expr:
        extents = [int(extent) for extent in self.shape_of(x)][2:]
        size = size or [int(extent * factor) for extent, factor in zip(extents, factors, strict=True)]
        if factors and coordinates != "align_corners" and any(e * f != s for e, f, s in zip(extents, factors, size, strict=True)):
            # torch then samples at 1/factor, which no size-based resize can express
            raise NotImplementedError(f"scale factors {list(factors)} do not give whole sizes from {extents}; use size=")
        size = tuple(int(extent) for extent in size)
        options = {"layout": "NCHW", "coordinate_transformation_mode": coordinates, "rounding_method": rounding}
        return self.block_builder.emit(relax.op.image.resize2d(x, size, method=method, **options))


def describe(node: fx.Node, operator: str | None = None) -> str:
    """ " "operator aten.cumsum.default (node cumsum, in module features.3)" for error messages."""
    modules = list(node.meta.get("nn_module_stack", {}).values())
    place = f", in module {modules[-1][0]}" if modules and modules[-1][0] else ""
    sources = [source.name for source in node.meta.get("from_node", ())]
    origin = f" of {sources[0]}" if sources and sources[0] != node.name else ""  # what it was before it was decomposed
    return f"{operator or f'operator {node.target}'} (node {node.name}{origin}{place})"


def refuse_unknown(program: torch.export.ExportedProgram) -> None:
    """UnsupportedError for the first operator outside TORCH_OPERATORS."""
    for node in program.graph.nodes:
        if node.op == "call_function" and node.target.__name__ not in TORCH_OPERATORS:
            if "batch_norm" in node.target.__name__:
                raise UnsupportedError(f"{describe(node)} is batch norm in training mode; call model.eval() before exporting")
            raise UnsupportedError(f"{describe(node)} is not supported; replace it or keep it outside the network")
        if node.op not in ("call_function", "placeholder", "output"):
            raise UnsupportedError(
                f"{node.op} {node.target} (node {node.name}) is not supported: control flow and submodules cannot be imported"
            )
