"""Quantize a small network with random real inputs, compile it with every stored tensor exposed, and hold it to the simulation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

import tvm_rsq
from tvm_rsq.compiler import compile_exposed
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load as load_model
from tvm_rsq.model import Model
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.targets.carried import level_array


def noise(*shape: int, seed: int = 0, gain: float = 1.0) -> np.ndarray:
    """Normal float32 values."""
    return (gain * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def seeded(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The module in eval mode with weights, biases and statistics that are neither tiny nor special."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith("running_var") or (name.endswith("weight") and value.ndim == 1):
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.is_floating_point():
                value.normal_(0, 0.3, generator=generator)
    return module.eval()


def imported(module: torch.nn.Module, shapes: Sequence[tuple[int, ...]]) -> Model:
    """The network as `quantized` takes it too: tests that quantize one in many ways import it once, which takes torch most of a second."""
    return load_model(module, tuple(torch.from_numpy(noise(*shape)) for shape in shapes))


def quantized(module: object, shapes: Sequence[tuple[int, ...]], config: tvm_rsq.QuantConfig | None = None) -> QuantizedModel:
    """The network quantized on four batches of noise. `shapes`: of its inputs; `module`: whatever tvm_rsq.quantize takes."""
    examples = tuple(torch.from_numpy(noise(*shape, seed=i)) for i, shape in enumerate(shapes))
    data = [noise(4 * shape[0], *shape[1:], seed=10 + i) for i, shape in enumerate(shapes)]
    config = config or tvm_rsq.QuantConfig(scheme="per_channel")
    return tvm_rsq.quantize(module, config, example_inputs=examples, calibration=data)


def near_float(found: QuantizedModel, bound: float = 0.08) -> None:
    """The simulation is the network that was quantized: |simulated - float| <= bound * |float| in the Euclidean norm, output by output.

    What the simulation and the kernels would get wrong alike, such as a bias in the wrong unit, is far beyond 8 bits' rounding.
    """
    inputs = [noise(*spec.shape, seed=10 + i) for i, spec in enumerate(found.model.inputs)]
    reference = [value.numpy() for value in Executor(found.model).run([torch.from_numpy(array) for array in inputs])]
    simulated = found.simulate(*inputs)
    for value, expected in zip(simulated if isinstance(simulated, tuple) else (simulated,), reference, strict=True):
        error = np.linalg.norm(value - expected) / np.linalg.norm(expected)
        assert error <= bound, f"relative error {error:.3f}"


def probes(found: QuantizedModel, gain: float = 1.3) -> list[np.ndarray]:
    """What `check` runs it on."""
    return [noise(*spec.shape, seed=100 + 7 * i, gain=gain) for i, spec in enumerate(found.model.inputs)]


def check(found: QuantizedModel, target: object = "llvm", *, gains: Sequence[float] = (1.3,)) -> list[np.ndarray]:
    """Every stored tensor equals the simulation bit for bit, every output to float32 rounding; answers the outputs of the last run.

    A gain above 1 makes some values leave the calibrated ranges, so that saturation is looked at too.
    """
    module = compile_exposed(found, target)
    for gain in gains:
        inputs = probes(found, gain)
        got = module.run(*inputs)
        expected = found.simulate(*inputs)
        expected = expected if isinstance(expected, tuple) else (expected,)
        tensors = found.simulate_tensors(*inputs)
        outputs, stored = got[: len(expected)], got[len(expected) :]
        assert len(stored) == len(found.plan.tensors) == len(tensors)
        for name, values in zip(found.plan.tensors, stored, strict=True):
            values = level_array(values)
            assert values.dtype == np.uint8
            different = np.flatnonzero(values.reshape(-1) != tensors[name].reshape(-1))
            assert not different.size, (
                f"{name}: {different.size} of {values.size} values differ from the simulation, the first: "
                f"{values.reshape(-1)[different[0]]} instead of {tensors[name].reshape(-1)[different[0]]}"
            )
        for value, reference in zip(outputs, expected, strict=True):
            # Outputs are float32 results of exact accumulators: a few roundings of float32.
            assert value.shape == reference.shape
            np.testing.assert_allclose(value, reference, rtol=1e-5, atol=1e-5 * (np.abs(reference).max() + 1e-3))
    return list(outputs)


def same_unexposed(found: QuantizedModel, target: object = "llvm") -> None:
    """The library as the user gets it, in which fusions are possible that exposing prevents, gives the simulation's outputs."""
    inputs = [noise(*spec.shape, seed=100 + i) for i, spec in enumerate(found.model.inputs)]
    got, expected = found.compile(target).run(*inputs), found.simulate(*inputs)
    for value, reference in zip(*((r if isinstance(r, tuple) else (r,)) for r in (got, expected)), strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-5, atol=1e-5 * (np.abs(reference).max() + 1e-3))
