"""What has to hold for every network that is not refused by name.

    library     what is stored equals the simulation bit for bit, outputs to float32's rounding; also once saved and loaded
    error       the simulation is as far from FP32 as roundings make it, see `noise_floor`
    exchange    the QDQ export is valid, and comes back as the same integers
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

import tvm_rsq
from tests.integer_case import check, probes
from tvm_rsq.errors import UnsupportedError
from tvm_rsq.executor import Executor
from tvm_rsq.onnx_export.export import qdq_network
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.tuning.placed_codes import Codes

_SAMPLES = 4
_TRIALS = 12
_ROOM = 2.0
"""Times the largest of the trials' noise: roundings of one network are one draw of what the trials are draws of. Of 324 outputs none was
beyond 1.2."""


_PLAIN = {
    "levers": "none", "range_method": "min_max", "weight_range": "min_max", "equalization": "none", "rounding": "nearest",
    "bias_correction": "none",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How a network is quantized and built.   options: of QuantConfig; codes: where codes become weights; gain: of the data"""

    target: str = "llvm"
    options: dict[str, Any] = field(default_factory=dict)
    gain: float = 1.0
    codes: Codes = "auto"

    @property
    def bounded(self) -> bool:
        """Whether every weight and activation is within half a step of its value, which the bound on the error is made of."""
        others = self.options.keys() & {*_PLAIN, "most_divergence", "average_bits"} - {"rounding"}
        return not others and self.options.get("rounding") in (None, "nearest", "squant")

    def config(self) -> tvm_rsq.QuantConfig:
        return tvm_rsq.QuantConfig(**{**_PLAIN, **self.options})

    def record(self) -> dict[str, Any]:
        return asdict(self)


def check_network(model: onnx.ModelProto, case: Case) -> None:
    """AssertionError: a property does not hold. UnsupportedError: the network is refused."""
    shapes = [tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in model.graph.input]
    rng = np.random.default_rng(0)
    data = [(case.gain * rng.standard_normal((_SAMPLES * shape[0], *shape[1:]))).astype(np.float32) for shape in shapes]
    found = tvm_rsq.quantize(model, case.config(), calibration=data)
    if case.bounded and not any(layer.accumulate16 for layer in found.plan.layers):  # which changes weights until their sums fit in int16
        check_error(found, data)
    check(found, case.target)
    _check_library(found, case)
    _check_exchange(found, data)


def check_error(found: QuantizedModel, data: list[np.ndarray]) -> None:
    """|simulated - FP32| <= 2 * noise_floor in the Euclidean norm, on the data that the ranges are of, output by output."""
    floors = noise_floor(found, data)
    simulated = found.simulate(*data)
    reference = _float(found, data)
    for value, wanted, floor in zip(_several(simulated), reference, floors, strict=True):
        error, size = float(np.linalg.norm(value - wanted)), float(np.linalg.norm(wanted))
        assert error <= _ROOM * floor + 1e-4 * size + 1e-6, f"output is {error:.4g} from FP32, roundings explain {floor:.4g} of {size:.4g}"


def noise_floor(found: QuantizedModel, data: list[np.ndarray]) -> list[float]:
    """What noise of a rounding's size does to each output: the largest Euclidean norm over trials.

    Every stored tensor gets uniform noise of one step, every weight of its channel's, or of the widest gap in its codebook: a rounding is
    within half a step of its value, and ranges are those of the same data, so that nothing saturates. In every third trial the pixels of a
    channel get the same, in another third all values: where values are alike, their roundings are, which no mean lessens. What the graph
    does with errors, from cancelling them to multiplying them, it does with this noise.
    """
    executor, generator = Executor(found.model), torch.Generator().manual_seed(0)
    inputs, reference = [torch.from_numpy(array) for array in data], _float(found, data)
    steps = {name: quant.scale for name, quant in found.plan.tensors.items()}
    worst = [0.0] * len(reference)

    def observe(name: str, value: torch.Tensor) -> torch.Tensor | None:
        if name not in steps:
            return None
        shape = (value.shape, value.shape[-1:], ())[alike]
        return value + steps[name] * (torch.rand(shape, generator=generator) - 0.5)

    for trial in range(_TRIALS):
        alike = trial % 3
        with torch.no_grad():
            noisy = executor.run(inputs, observe=observe, params=_noisy_weights(found, generator))
        norms = [float(np.linalg.norm(value.numpy() - wanted)) for value, wanted in zip(noisy, reference, strict=True)]
        worst = [max(pair) for pair in zip(worst, norms, strict=True)]
    return worst


def _noisy_weights(found: QuantizedModel, generator: torch.Generator) -> dict[str, torch.Tensor]:
    made = {}
    for layer in found.plan.layers:
        if layer.scheme == "float":
            continue
        weight = torch.from_numpy(np.array(found.model.params[layer.name]))
        # At least 1: the bias is rounded to this unit even where all weights are one level.
        gap = max([1.0, *(float(np.diff(book).max()) for book in layer.codebook)])
        scale = gap * torch.tensor(layer.weight_scale, dtype=torch.float32)
        along = scale if layer.op == "dense" or len(scale) == 1 else scale.reshape(-1, 1, 1, 1)
        made[layer.name] = weight + along * (torch.rand(weight.shape, generator=generator) - 0.5)
    return made


def _float(found: QuantizedModel, data: list[np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        return [value.numpy() for value in Executor(found.model).run([torch.from_numpy(array) for array in data])]


def _check_library(found: QuantizedModel, case: Case) -> None:
    """As the user gets it, in which fusions are possible that exposing prevents; and once it is loaded again."""
    module = found.compile(case.target, codes=case.codes)
    # Inputs whose stored tensors `check` found right: with others, float32 between two kernels may break a tie another way than float64.
    inputs = probes(found)
    with tempfile.TemporaryDirectory() as folder:
        module.save(Path(folder) / "net.rsq")
        loaded = tvm_rsq.load(Path(folder) / "net.rsq")
        answers = (_several(each) for each in (module.run(*inputs), loaded.run(*inputs), found.simulate(*inputs)))
        for made, again, wanted in zip(*answers, strict=True):
            assert np.array_equal(made, again, equal_nan=True), "a loaded library answers differently"
            np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-5 * (np.abs(wanted).max() + 1e-3))


def _several(answer: np.ndarray | tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def _check_exchange(found: QuantizedModel, data: list[np.ndarray]) -> None:
    try:
        made = qdq_network(found.annotated)
    except UnsupportedError:
        return
    again = tvm_rsq.quantize(made, tvm_rsq.QuantConfig(requantize=found.config.requantize), calibration=data)
    # A file has no word for how a layer requantizes. And what was in float, such as a parameter of one number, may be integers now, whose
    # scales the file leaves open, or part of a kernel that stores less than the file rounds; equal values of two scales have one.
    asked = {layer.requantize for layer in found.plan.layers} - {"float", found.config.requantize}
    stored, again_stored = ({(quant.scale, quant.zero_point) for quant in each.plan.tensors.values()} for each in (found, again))
    if asked or stored != again_stored or any("several scales" in note for note in again.plan.notes):
        check_error(again, data)
        return
    for ours, theirs in zip(_several(found.simulate(*data)), _several(again.simulate(*data)), strict=True):
        assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-5 * (np.abs(ours).max() + 1e-3)), "the QDQ export comes back as something else"
