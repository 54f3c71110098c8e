"""Our builds of a network: the hybrid one, what it is compared with, and FP32."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import tvm_rsq
from scripts.models.network import Network
from scripts.peers.build import Build
from scripts.peers.file_digest import network_digest
from scripts.peers.work_folder import WorkFolder, folder_digest
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.compiled_module import CompiledModule
from tvm_rsq.config import QuantConfig
from tvm_rsq.progress import ProgressCallback, silent
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.remote.device import RemoteDevice
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.tune_config import TuneConfig

# per_channel is the strongest all-per-channel build there is, fixed_point the one that requantizes by 64-bit products, as TVM itself does.
CONFIGS: Mapping[str, QuantConfig] = {
    "hybrid": QuantConfig(),
    "per_channel": QuantConfig(scheme="per_channel"),
    "fixed_point": QuantConfig(scheme="per_channel", requantize="fixed_point"),
}


@dataclass(frozen=True, kw_only=True)
class Ours:
    """Everything that our builds are made from.

    tuning_dir  records to read for them; None leaves all untuned
    device      boards of `spec` that decide what a layer of "hybrid" is granted; None: this machine, where it runs code for `spec`
    """

    model: str
    network: Network
    batch: int
    threads: int
    spec: TargetSpec
    calibration: CalibrationSet
    folder: WorkFolder
    tuning_dir: Path | None = None
    device: RemoteDevice | None = None
    progress: ProgressCallback = silent

    @cached_property
    def modules(self) -> dict[str, CompiledModule]:
        """Build -> module, as Row.builds names them; the plan of "hybrid" holds the multiply-accumulates."""
        found = {name: self.module(name) for name in CONFIGS}
        if self.tuning_dir is not None:
            found["hybrid untuned"] = self._integer("hybrid", None)
        return found | {"fp32": self.module("fp32")}

    def module(self, name: str) -> CompiledModule:
        """One of CONFIGS, or "fp32"."""
        if name == "fp32":
            return self.folder.artifact(self.model, name, self._facts(), self._float)
        return self._integer(name, self.tuning_dir)

    def builds(self) -> dict[str, Build]:
        return {name: our_build(name, module) for name, module in self.modules.items()}

    @property
    def macs(self) -> int:
        """Of one call."""
        return sum(layer.macs for layer in self.module("per_channel").plan.layers)

    @cached_property
    def _network_digest(self) -> str:
        return network_digest(self.network)

    def _facts(self) -> tuple[object, ...]:
        return (self._network_digest, self.batch, sorted(self.spec.tvm.items(), key=str))

    def _integer(self, name: str, tuning_dir: Path | None) -> CompiledModule:
        tuned = None if tuning_dir is None else folder_digest(tuning_dir)
        # What a layer is granted follows from times, and tuned kernels from records, which belong to a number of threads.
        threads = self.threads if tuned or name == "hybrid" else None
        calibration = (self.calibration.source, _digest(self.calibration.inputs))
        decided = None if self.device is None or name != "hybrid" else (self.device.key, self.device.measure)
        facts = (*self._facts(), CONFIGS[name], calibration, tuned, threads, *([decided] if decided else []))
        return self.folder.artifact(self.model, name, facts, lambda: self._compile(name, tuning_dir))

    def _compile(self, name: str, tuning_dir: Path | None) -> CompiledModule:
        tuning = None if tuning_dir is None else TuneConfig(trials=0, work_dir=tuning_dir, threads=self.threads)
        return tvm_rsq.compile(self._quantized(name), self.spec, tuning=tuning, progress=self.progress)

    def _quantized(self, name: str) -> QuantizedModel:
        """Decided once, so that a tuned and an untuned build differ in their kernels only."""
        made = self._plans
        if name not in made:
            where = {"target": self.spec} if self.device is None or name != "hybrid" else {"device": self.device}
            made[name] = tvm_rsq.quantize(
                self.network.model, CONFIGS[name], **where, example_inputs=self.network.example_inputs,
                calibration=self.calibration, batch=self.batch, name=self.model, progress=self.progress,
            )  # fmt: skip
        return made[name]

    @cached_property
    def _plans(self) -> dict[str, QuantizedModel]:
        return {}

    def _float(self) -> CompiledModule:
        return tvm_rsq.build_float(
            self.network.model, self.spec, example_inputs=self.network.example_inputs, batch=self.batch, progress=self.progress
        )


def our_build(name: str, module: CompiledModule) -> Build:
    return Build(name=name, run=module.run, bound_us=lambda x: module.time_us(x, repeat=1)[0])


def _digest(arrays: tuple[np.ndarray, ...]) -> int:
    """Of the contents of arrays."""
    return zlib.crc32(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))
