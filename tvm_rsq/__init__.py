"""Data-free hybrid quantization of trained networks to integer-only libraries, on Apache TVM.

    module = tvm_rsq.compile(network, target="llvm", example_inputs=(x,))
    module.run(x);  module.plan;  module.report;  module.save("net.rsq");  tvm_rsq.load("net.rsq")

Names are resolved on first use: importing this package imports neither tvm nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "ArtifactError": "errors",
    "CalibrationError": "errors",
    "CalibrationSet": "calibration_set",
    "CompiledModule": "compiled_module",
    "ConfigError": "errors",
    "DeviceError": "errors",
    "Error": "errors",
    "InputError": "errors",
    "LayerOverride": "layer_override",
    "Model": "model",
    "ModelError": "errors",
    "Progress": "progress",
    "QuantConfig": "config",
    "QuantPlan": "plan",
    "QuantizedModel": "quantized_model",
    "RemoteDevice": "remote.device",
    "SynthesisConfig": "config",
    "TargetError": "errors",
    "TuneConfig": "tune_config",
    "UnsupportedError": "errors",
    "build_float": "api",
    "compile": "api",
    "load": "artifact",
    "quantize": "api",
    "synthesize": "api",
}

__all__ = [  # spelled out, for type checkers read nothing else
    "ArtifactError",
    "CalibrationError",
    "CalibrationSet",
    "CompiledModule",
    "ConfigError",
    "DeviceError",
    "Error",
    "InputError",
    "LayerOverride",
    "Model",
    "ModelError",
    "Progress",
    "QuantConfig",
    "QuantPlan",
    "QuantizedModel",
    "RemoteDevice",
    "SynthesisConfig",
    "TargetError",
    "TuneConfig",
    "UnsupportedError",
    "build_float",
    "compile",
    "load",
    "quantize",
    "synthesize",
]

if TYPE_CHECKING:
    from tvm_rsq.api import build_float, compile, quantize, synthesize  # noqa: A004
    from tvm_rsq.artifact import load
    from tvm_rsq.calibration_set import CalibrationSet
    from tvm_rsq.compiled_module import CompiledModule
    from tvm_rsq.config import QuantConfig, SynthesisConfig
    from tvm_rsq.errors import (
        ArtifactError,
        CalibrationError,
        ConfigError,
        DeviceError,
        Error,
        InputError,
        ModelError,
        TargetError,
        UnsupportedError,
    )
    from tvm_rsq.layer_override import LayerOverride
    from tvm_rsq.model import Model
    from tvm_rsq.plan import QuantPlan
    from tvm_rsq.progress import Progress
    from tvm_rsq.quantized_model import QuantizedModel
    from tvm_rsq.remote.device import RemoteDevice
    from tvm_rsq.tune_config import TuneConfig


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tvm_rsq' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tvm_rsq.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
