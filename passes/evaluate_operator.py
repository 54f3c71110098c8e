"""Relax operators on numpy arrays: the few that occur between a stored weight and the operator that uses it.

Evaluating them here keeps weights exact (the compiler would have to build and run a library for each) and keeps torch out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from tvm import relax

from tvm_rsq.errors import UnsupportedError


def evaluate(call: relax.Call, args: Sequence[np.ndarray | tuple[np.ndarray, ...] | None]) -> np.ndarray | tuple[np.ndarray, ...]:
    """The value of `call`, whose tensor arguments have the values `args` (other arguments: None).

    UnsupportedError: an operator outside the table.
    """
    name = call.op.name if hasattr(call.op, "name") else "a TIR call"
    if name not in _OPERATORS:
        raise UnsupportedError(f"{name} is applied to weights alone, which tvm_rsq cannot evaluate; simplify the model before exporting it")
    value = _OPERATORS[name](call, *args)
    if isinstance(value, tuple):
        return value
    return np.asarray(value, dtype=str(call.ty.dtype)) if isinstance(call.ty, relax.TensorType) else value


def _shape(call: relax.Call) -> tuple[int, ...]:
    return tuple(int(extent) for extent in call.ty.shape.values)


def _axes(values: Iterable[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(int(axis) for axis in values)


def _to_output_shape(call: relax.Call, x: np.ndarray, *_: object) -> np.ndarray:
    return x.reshape(_shape(call))


def _permute(call: relax.Call, x: np.ndarray) -> np.ndarray:
    return np.transpose(x, _axes(call.attrs.axes))


def _mean(call: relax.Call, x: np.ndarray) -> np.ndarray:
    return x.mean(axis=_axes(call.attrs.axis), keepdims=bool(call.attrs.keepdims))


def _split(call: relax.Call, x: np.ndarray) -> tuple[np.ndarray, ...]:
    sections = call.attrs.indices_or_sections
    where = int(sections) if isinstance(sections, int) or hasattr(sections, "value") else [int(index) for index in sections]
    return tuple(np.split(x, where, axis=int(call.attrs.axis)))


def _clip(call: relax.Call, x: np.ndarray, *_: object) -> np.ndarray:
    return np.clip(x, float(call.args[1].value), float(call.args[2].value))


_OPERATORS: dict[str, Callable[..., np.ndarray | tuple[np.ndarray, ...]]] = {
    "relax.reshape": _to_output_shape,
    "relax.squeeze": _to_output_shape,
    "relax.expand_dims": _to_output_shape,
    "relax.flatten": _to_output_shape,
    "relax.permute_dims": _permute,
    "relax.broadcast_to": lambda call, x, *_: np.broadcast_to(x, _shape(call)),
    "relax.astype": lambda call, x: x,  # evaluate() converts to the call's dtype
    "relax.concat": lambda call, fields: np.concatenate(fields, axis=int(call.attrs.axis)),
    "relax.split": _split,
    "relax.mean": _mean,
    "relax.clip": _clip,
    "relax.add": lambda call, a, b: a + b,
    "relax.subtract": lambda call, a, b: a - b,
    "relax.multiply": lambda call, a, b: a * b,
    "relax.divide": lambda call, a, b: a / b,
    "relax.power": lambda call, a, b: np.power(a, b),
    "relax.maximum": lambda call, a, b: np.maximum(a, b),
    "relax.minimum": lambda call, a, b: np.minimum(a, b),
    "relax.negative": lambda call, x: -x,
    "relax.abs": lambda call, x: np.abs(x),
    "relax.exp": lambda call, x: np.exp(x),
    "relax.sqrt": lambda call, x: np.sqrt(x),
    "relax.rsqrt": lambda call, x: 1 / np.sqrt(x),
    "relax.nn.relu": lambda call, x: np.maximum(x, 0),
    "relax.full": lambda call, _shape_value, x: np.full(_shape(call), x),
    "relax.zeros_like": lambda call, x: np.zeros(_shape(call)),
}
