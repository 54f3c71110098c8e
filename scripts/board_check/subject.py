"""What is checked: a development network, and how it is quantized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

import tvm_rsq
from scripts.models.registry import NETWORKS, load
from scripts.peers.compare_builds import photos_for
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import QuantConfig
from tvm_rsq.progress import ProgressCallback, silent
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.tuning.placed_codes import Codes, PlacedCodes

_LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"  # architectures, with weights that are constants
LIGHT = tuple(sorted(path.stem for path in _LIGHT.glob("light_*.onnx")))
_SAMPLES = 4  # that a plan is made with: it has to be a plan, not a good one


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a network is quantized, and where its codes become weights (see tvm_rsq.compile)."""

    config: QuantConfig
    codes: Codes = "auto"


INT8 = "int8"
_FOUR_BITS = QuantConfig(weight_bits=4)
WAYS: Mapping[str, Way] = {
    INT8: Way(config=QuantConfig()),
    "4-bit": Way(config=_FOUR_BITS),
    "codebook": Way(config=replace(_FOUR_BITS, nonuniform=True)),
    "codebook-in-kernel": Way(config=replace(_FOUR_BITS, nonuniform=True), codes="kernel"),
    # What a plan for a board without dot product may grant, granted to every layer.
    "shift": Way(config=QuantConfig(overrides={"*": "requantize=shift,accumulate16=32"})),
    "fixed-point": Way(config=QuantConfig(requantize="fixed_point")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """network: of NETWORKS or LIGHT; way: of WAYS"""

    network: str
    way: str

    @classmethod
    def parse(cls, text: str) -> Subject:
        """NETWORK, which is int8, or NETWORK:WAY.   ValueError: either is unknown, in a line."""
        network, colon, way = text.partition(":")
        if network not in (*NETWORKS, *LIGHT):
            raise ValueError(f"no network {network!r}; choose from {', '.join((*NETWORKS, *LIGHT))}")
        if colon and way not in WAYS:
            raise ValueError(f"{network} has no way {way!r}; choose from {', '.join(WAYS)}")
        return cls(network=network, way=way or INT8)

    def quantize(self, progress: ProgressCallback = silent) -> QuantizedModel:
        """On a few photos where they are in the cache; elsewhere, and where weights are constants, on noise.

        FetchError: the network is not in the cache.
        """
        config = WAYS[self.way].config
        if self.network in LIGHT:
            return tvm_rsq.quantize(_LIGHT / f"{self.network}.onnx", config, calibration=_noise((3, 224, 224)), progress=progress)
        network = load(self.network)
        photos = photos_for(network)
        calibration = _noise(network.example_inputs[0].shape[1:]) if photos is None else CalibrationSet(inputs=(photos[:_SAMPLES],))
        return tvm_rsq.quantize(
            network.model, config, example_inputs=network.example_inputs, calibration=calibration, batch=1, name=self.network,
            progress=progress,
        )  # fmt: skip

    def spec(self, target: str) -> TargetSpec:
        """The target with kernels that take codes where this way says so."""
        spec, codes = parse_target(target), WAYS[self.way].codes
        return spec if codes == "auto" else replace(spec, library=PlacedCodes(spec.library, codes))


def _noise(shape: Sequence[int]) -> CalibrationSet:
    noise = np.random.default_rng(0).standard_normal((_SAMPLES, *shape), np.float32)
    return CalibrationSet(inputs=(noise,), source="gaussian")


ALL = tuple(
    Subject.parse(text)
    for text in (
        *NETWORKS, *LIGHT, "resnet20-cifar:4-bit", "resnet20-cifar:shift", "resnet20-cifar:fixed-point",
        "resnet20-cifar:codebook-in-kernel", "mobilenetv2:codebook", "mobilenetv2:shift",
    )
)  # fmt: skip
