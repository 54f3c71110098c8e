"""What is compared on a device: one network as hybrid, as the strongest per-channel plan, and in FP32, each with its reference.

One plan serves every device, so that all of them compute the same and a difference between two is the devices'. Where levers are decided by
what they save (see plan_levers.py), it is by the measure of the first device; or each device decides for itself, and has a plan of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from tvm_rsq import api
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.compiled_module import CompiledModule, Contents
from tvm_rsq.compiler import compile_float, compile_quantized
from tvm_rsq.config import QuantConfig
from tvm_rsq.fidelity import compare, in_batches
from tvm_rsq.progress import Progress, ProgressCallback
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.remote.device import RemoteDevice
from tvm_rsq.report.data import ReportData
from tvm_rsq.tune_config import TuneConfig

HYBRID, PER_CHANNEL, FLOAT = "hybrid", "per-channel", "FP32"
_JUDGED = 16  # calibration inputs that the divergence is measured on


@dataclass(frozen=True, kw_only=True)
class DeviceBuild:
    """A library for a device, and what it has to answer.

    exact       whether it is right only if it answers bit for bit as `reference`; FP32 and parts left in float may round otherwise
    reference   the outputs of the same plan on this machine
    divergence  nats from FP32; None for FP32
    """

    name: str
    contents: Contents
    reference: Callable[..., tuple[np.ndarray, ...]] = field(repr=False)
    exact: bool
    divergence: float | None = None


@dataclass(kw_only=True)
class NetworkBuilds:
    """Builds of one network, made as they are asked for; see the module.

    model, arguments  as of tvm_rsq.quantize; calibration, batch, ...
    names             which builds, of HYBRID, PER_CHANNEL and FLOAT
    plan              "one" for all devices, or one for "each"
    """

    model: Any
    config: QuantConfig
    arguments: dict[str, Any]
    names: Sequence[str]
    plan: Literal["one", "each"]
    tuning: TuneConfig | None
    progress: ProgressCallback
    _at: str = ""
    _first: QuantizedModel | None = None
    _made: dict[str, Any] = field(default_factory=dict)

    def of(self, device: RemoteDevice) -> list[DeviceBuild]:
        """Errors as tvm_rsq.compile."""
        made = []
        for name in self.names:
            self._at = f"{device.key} {name}"
            made.append(self._build(name, device))
        return made

    @property
    def calibration(self) -> CalibrationSet | None:
        """The data that plans were made with; None before the first."""
        return self._first.calibration if self._first else None

    @property
    def report(self) -> ReportData | None:
        """Of the first integer library that was made, for the first device."""
        return self._made.get("report")

    def _build(self, name: str, device: RemoteDevice) -> DeviceBuild:
        spec = device.spec()
        if name == FLOAT:
            module = compile_float(self._any_plan(device).model, spec, progress=self._say)
            return DeviceBuild(name=name, contents=module.contents, reference=outputs_of(self._float(device)), exact=False)
        quantized = self._hybrid(device) if name == HYBRID else self._per_channel(device)
        module = compile_quantized(quantized, spec, tuning=self.tuning, progress=self._say)
        self._once("report", lambda: module.report)
        here = self._once(f"{name} {id(quantized)}", lambda: compile_quantized(quantized, progress=self._say))
        inputs = [array[:_JUDGED] for array in quantized.calibration.inputs]
        run = partial(in_batches, inputs=inputs, batch=here.inputs[0].shape[0])
        found = self._once(f"fidelity {id(here)}", lambda: compare(run(self._float(device).run), run(here.run), source=""))
        return DeviceBuild(
            name=name, contents=module.contents, reference=outputs_of(here), exact=not quantized.plan.float_islands, divergence=found.kl
        )

    def _hybrid(self, device: RemoteDevice) -> QuantizedModel:
        def decide() -> QuantizedModel:
            return api.quantize(self.model, self.config, device=device, **self._arguments(), progress=self._say)

        return self._kept(self._once("plan" if self.plan == "one" else f"plan {device.key}", decide))

    def _per_channel(self, device: RemoteDevice) -> QuantizedModel:
        config = replace(self.config, scheme="per_channel")

        def decide() -> QuantizedModel:
            return api.quantize(self.model, config, **self._arguments(), progress=self._say)

        return self._kept(self._once("per channel", decide))

    def _any_plan(self, device: RemoteDevice) -> QuantizedModel:
        return self._first or (self._hybrid(device) if HYBRID in self.names else self._per_channel(device))

    def _float(self, device: RemoteDevice) -> CompiledModule:
        return self._once("float", lambda: compile_float(self._any_plan(device).model, progress=self._say))

    def _say(self, event: Progress) -> None:
        self.progress(replace(event, detail=f"{self._at}: {event.detail}" if event.detail else self._at))

    def _arguments(self) -> dict[str, Any]:
        """All plans are made with the data of the first."""
        return {**self.arguments, "calibration": self.calibration} if self._first else self.arguments

    def _kept(self, quantized: QuantizedModel) -> QuantizedModel:
        self._first = self._first or quantized
        return quantized

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]


def outputs_of(module: CompiledModule) -> Callable[..., tuple[np.ndarray, ...]]:
    """`module.run`, whose result is always a tuple."""

    def run(*inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        found = module.run(*inputs)
        return found if isinstance(found, tuple) else (found,)

    return run
