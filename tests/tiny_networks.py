"""Small networks for tests of the analysis: built directly as Relax, in the canonical form that the importers produce."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import relax
from tvm.relax import op as R

from tvm_rsq.model import InputSpec, Model


def build(body: Callable, shapes: Sequence[tuple[int, ...]], params: dict[str, np.ndarray]) -> Model:
    """A Model whose main computes body(emit, *inputs, **params)."""
    builder = relax.BlockBuilder()
    inputs = [relax.Var(f"x{i}", relax.TensorType(shape, "float32")) for i, shape in enumerate(shapes)]
    weights = {name: relax.Var(name, relax.TensorType(value.shape, "float32")) for name, value in params.items()}
    with builder.function("main", [*inputs, *weights.values()], attrs={"num_input": len(inputs)}):
        with builder.dataflow():
            output = builder.emit_output(body(builder.emit, *inputs, weights))
        builder.emit_func_output(output)
    specs = tuple(InputSpec(name=var.name, shape=tuple(shape), dtype="float32") for var, shape in zip(inputs, shapes, strict=True))
    return Model(module=builder.get(), params=params, inputs=specs)


def classifier(*, batch_norm: bool = True, softmax: bool = False, gain: float = 1.0, offset: float = 0.0, seed: int = 0) -> Model:
    """conv - bn - relu - strided conv - bn - relu - pool - dense, 8 classes, input (1, 3, 16, 16).

    The running statistics are those of smooth images offset + gain * N(0, 1); gain and offset are undone by the first convolution.
    """
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((8, 3, 3, 3)).astype(np.float32) / 5
    params = {
        "first.weight": first / gain,
        "first.bias": (-offset / gain * first.sum((1, 2, 3)) + 0.3 * rng.standard_normal(8)).reshape(1, 8, 1, 1).astype(np.float32),
        "second.weight": rng.standard_normal((12, 8, 3, 3)).astype(np.float32) / 8,
        "dense.weight": rng.standard_normal((12, 8)).astype(np.float32) * 2,
    }
    if batch_norm:
        for name, count in (("bn1", 8), ("bn2", 12)):
            params[f"{name}.gamma"] = rng.uniform(0.5, 1.5, count).astype(np.float32)
            params[f"{name}.beta"] = (0.3 * rng.standard_normal(count)).astype(np.float32)
            params[f"{name}.mean"] = (0.3 * rng.standard_normal(count)).astype(np.float32)
            params[f"{name}.var"] = rng.uniform(0.4, 1.6, count).astype(np.float32)

    def body(emit, x, p):
        def normalise(value, name):
            if not batch_norm:
                return value
            arguments = [p[f"{name}.{part}"] for part in ("gamma", "beta", "mean", "var")]
            return emit(relax.TupleGetItem(emit(R.nn.batch_norm(value, *arguments, axis=1, epsilon=1e-3, training=False)), 0))

        x = emit(R.add(emit(R.nn.conv2d(x, p["first.weight"])), p["first.bias"]))
        x = emit(R.nn.relu(normalise(x, "bn1")))
        x = emit(R.nn.conv2d(x, p["second.weight"], strides=2, padding=1))
        x = emit(R.nn.relu(normalise(x, "bn2")))
        x = emit(R.matmul(emit(R.mean(x, [2, 3])), p["dense.weight"]))
        return emit(R.nn.softmax(x)) if softmax else x

    return build(body, [(1, 3, 16, 16)], params)
