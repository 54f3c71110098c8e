"""An island function as the lowering reads it: operations on named tensors with their quantization."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import numpy as np
from tvm.ir import IRModule

from tvm_rsq.codebook.scaled_levels import ScaledLevels
from tvm_rsq.passes.dataflow import Dataflow, Node
from tvm_rsq.targets.carrier import Carrier
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workload import Accumulate16, RequantizeArithmetic
from tvm_rsq.targets.workloads_elementwise import OutType


class Part(NamedTuple):
    """Channels offset ... of the last axis of `whole`, the tensor of a concatenation, which has `pitch` of them."""

    whole: str
    offset: int
    pitch: int


class Affine(NamedTuple):
    """real = scale * (q - zero_point), q in [0, qmax]; scale is a float or an array along the channels."""

    scale: float | np.ndarray
    zero_point: int
    qmax: int = 255


@dataclass(frozen=True, kw_only=True, eq=False)
class Expanded:
    """A weight that kernel(codes, table, [of_slot]) makes when the library is loaded.   shape, dtype: of the weight"""

    kernel: Kernel
    codes: np.ndarray
    table: np.ndarray
    of_slot: np.ndarray | None = None
    shape: tuple[int, ...]
    dtype: str

    @property
    def arguments(self) -> list[np.ndarray]:
        return [array for array in (self.codes, self.table, self.of_slot) if array is not None]


@dataclass(frozen=True, kw_only=True)
class LoweredCall:
    """What an island becomes: kernel(*arguments) -> a tensor of `shape` and `dtype`, reshaped to the island's result.

    arguments  a string names an island parameter, whose tensor is passed; an array is a constant; Expanded, a weight made once
    shapes     island parameter -> the shape in which the kernel takes it, where that differs
    result_shape  of the island's result, where the kernel makes it in another shape
    kernel     None: nothing to compute, the result is the first argument in another shape, or what `whole` holds already
    whole      the concatenation's tensor into which the kernel stores, others of its parts being there already or coming later
    """

    kernel: Kernel | None
    arguments: tuple[str | np.ndarray | Expanded, ...]
    shape: tuple[int, ...]
    dtype: str
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    result_shape: tuple[int, ...] | None = None
    whole: str | None = None


class IslandView:
    """kind, layer, tensor, requantize, accumulate16, books and levels as fold_islands noted them.

    ops       operations but quantize and dequantize
    part      where concat_in_place wants the result stored, None for a tensor of its own
    in_place  of a concatenation: the parameters that are in their places already
    carrier   of every stored tensor, in the kernels; in the function itself they are uint8
    """

    def __init__(self, mod: IRModule, name: str, carrier: Carrier = "uint8") -> None:
        self.carrier = carrier
        self.view = Dataflow(mod, name)
        function, attrs = self.view.function, self.view.function.attrs
        self.kind = str(attrs["rsq.kind"])
        self.layer = str(attrs["rsq.layer"])
        self.tensor = str(attrs["rsq.tensor"])
        self.requantize = cast(RequantizeArithmetic, str(attrs.get("rsq.requantize", "float")))
        self.accumulate16 = cast(Accumulate16, int(attrs.get("rsq.accumulate16", 0)))
        self.books = tuple(tuple(int(entry) for entry in book) for book in attrs.get("rsq.codebook", ()))
        levels = attrs.get("rsq.levels")
        self.levels = levels if levels is None else ScaledLevels(levels=_floats(levels[0]), scale=_floats(levels[1]))
        part = attrs.get("rsq.part")
        self.part = Part(str(part["whole"]), int(part["offset"]), int(part["pitch"])) if part is not None else None
        self.in_place = frozenset(str(name) for name in attrs.get("rsq.in_place", ()))
        self.ops: tuple[Node, ...] = tuple(self.view.nodes.values())
        self.result = self.ops[-1]
        self.out_shape = tuple(int(extent) for extent in function.ret_ty.shape.values)
        self.out_dtype = cast(OutType, str(function.ret_ty.dtype))

    def affine(self, tensor: str) -> Affine:
        """Quantization of a tensor. KeyError: it has none."""
        scale, zero = self.view.quantization[tensor]
        value = float(scale) if scale.ndim == 0 else scale
        return Affine(value, int(zero.reshape(-1)[0]), self.view.qmax.get(tensor, 255))

    @property
    def output(self) -> Affine | None:
        """Quantization of the result, None where it leaves in float."""
        return self.stored if self.out_dtype == "uint8" else None

    @property
    def stored(self) -> Affine:
        """Quantization of a result that does not leave in float. KeyError: it does."""
        return self.affine(self.result.name)

    @property
    def stored_dtype(self) -> OutType:
        """Of the result, as the kernels store it."""
        return self.carrier if self.output else self.out_dtype

    def shape(self, tensor: str) -> tuple[int, ...]:
        return self.view.shape(tensor)

    def clamp(self) -> tuple[float, float]:
        """Real bounds that a relu or clip at the island's end puts on its result; infinite without one."""
        return clamp_bounds(self.result)

    def quantized_clamp(self) -> tuple[int, int]:
        """The same bounds on the result's quantized values: rounding is monotone, so clipping after it is the same."""
        low, high = self.clamp()
        return level(low, self.stored), level(high, self.stored)


def _floats(values: Sequence[float]) -> np.ndarray:
    return np.array([float(value) for value in values], np.float32)


def clamp_bounds(node: Node) -> tuple[float, float]:
    """(low, high) of a relu or clip; (-inf, inf) for any other operation."""
    if node.op == "nn.relu":
        return 0.0, float("inf")
    if node.op == "clip":
        return float(node.expr.args[1].value), float(node.expr.args[2].value)
    return float("-inf"), float("inf")


def level(value: float, affine: Affine) -> int:
    """A real bound as a quantized value, rounded as the quantize kernel rounds."""
    inverse = np.float64(np.float32(1.0) / np.float32(affine.scale))
    return int(np.clip(np.rint(value * inverse + affine.zero_point), 0, affine.qmax))


def static_attr(values: Iterable[int]) -> tuple[int, ...]:
    """An integer-array attribute of an operator."""
    return tuple(int(value) for value in values)


def pair(values: Iterable[int]) -> tuple[int, int]:
    """Such an attribute with two elements."""
    first, second = static_attr(values)
    return first, second


def sides(padding: Iterable[int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of a 2- or 4-element padding attribute."""
    values = static_attr(padding)
    top, left, bottom, right = values * 2 if len(values) == 2 else values
    return top, left, bottom, right


def nhwc(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """The shape of an image tensor."""
    batch, height, width, channels = shape
    return batch, height, width, channels
