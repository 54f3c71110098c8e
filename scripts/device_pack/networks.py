"""Networks of a bundle: compiled for the GPU, with the answers of the same plan on this CPU."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tvm_rsq
from scripts.device_run.network_case import SAMPLES, NetworkCase, samples
from scripts.models.network import Network
from scripts.models.registry import NETWORKS, load
from scripts.peers.compare_builds import photos_for
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.compiled_module import CompiledModule
from tvm_rsq.compiler import compile_float, compile_quantized
from tvm_rsq.quantized_model import QuantizedModel

HYBRID, PER_CHANNEL, FLOAT = "hybrid", "per-channel", "fp32"
BUILDS = (HYBRID, PER_CHANNEL, FLOAT)
_SEED = 0
_CALIBRATED_ON = 16  # photos


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkBuilds:
    """Of one network: every batch and build, for a GPU of `arch`."""

    name: str
    batches: Sequence[int]
    builds: Sequence[str]
    arch: str

    def pack(self, folder: Path, note: Callable[[str], None]) -> Iterator[NetworkCase]:
        """FetchError: the network is not in the cache. Errors as of tvm_rsq.compile."""
        network = load(self.name)
        (folder / "networks").mkdir(exist_ok=True)
        plans: dict[tuple[str, int], QuantizedModel] = {}

        def planned(build: str, batch: int) -> QuantizedModel:
            key = HYBRID if build == HYBRID else PER_CHANNEL, batch
            plans[key] = plans.get(key) or self._plan(network, *key)
            return plans[key]

        for batch in self.batches:
            for build in self.builds:
                note(f"{self.name} batch {batch} {build}")
                made = _compiled(planned(build, batch), build, f"cuda -arch={self.arch}")
                shape = tuple(made.inputs[0].shape)
                library = f"networks/{self.name}_{batch}_{build}.so.xz"
                (folder / library).write_bytes(lzma.compress(made.contents.library, preset=1))
                path = f"networks/{self.name}_{batch}_{build}.npy"
                here = _compiled(planned(build, batch), build, "llvm")
                np.save(folder / path, _answers(here, np.resize(samples(shape, _SEED), shape))[:SAMPLES])
                yield NetworkCase(
                    network=self.name, batch=batch, build=build, library=library, arch=self.arch, shape=shape, seed=_SEED, answers=path,
                    exact=build != FLOAT, model=_torch_class(self.name, network),
                )  # fmt: skip

    def _plan(self, network: Network, build: str, batch: int) -> QuantizedModel:
        scheme = "hybrid" if build == HYBRID else "per_channel"
        photos = photos_for(network)
        calibration = None if photos is None else CalibrationSet(inputs=(photos[:_CALIBRATED_ON],))
        return tvm_rsq.quantize(
            network.model, tvm_rsq.QuantConfig(scheme=scheme, levers="none"), example_inputs=network.example_inputs,
            calibration=calibration, batch=batch, name=self.name,
        )  # fmt: skip


def _compiled(plan: QuantizedModel, build: str, target: str) -> CompiledModule:
    return compile_float(plan.model, target) if build == FLOAT else compile_quantized(plan, target)


def _answers(module: CompiledModule, inputs: np.ndarray) -> np.ndarray:
    found = module.run(inputs)
    return found if isinstance(found, np.ndarray) else found[0]


def _torch_class(name: str, network: Network) -> tuple[str, str] | None:
    if isinstance(network.model, Path):
        return None
    kind = type(network.model)
    return (f"scripts.models.{NETWORKS[name]}", kind.__name__) if kind.__module__.startswith("scripts.models.") else None
