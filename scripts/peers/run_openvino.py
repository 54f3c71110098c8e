"""OpenVINO as a Build."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np

from scripts.peers.build import Build, PeerError


def openvino_build(name: str, path: Path, threads: int, *, int8: bool) -> Build:
    """The file for least latency on `threads` threads; what is not integer runs in float32.

    int8  PeerError unless most of its convolutions really run in integers (it leaves some to float by its own choice)
    """
    import openvino

    # It would pin its threads to cores of its own choice, and suffer from whatever else runs there; the scheduler places them, as ours.
    settings = {
        "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    precisions = convolution_precisions(compiled)
    if int8 and precisions["u8"] + precisions["i8"] < 0.5 * precisions.total():
        raise PeerError(f"OpenVINO runs {dict(precisions)} convolutions of {path.name}, expected integers; this is no int8 baseline")
    request = compiled.create_infer_request()
    result = compiled.output(0)

    def run(x: np.ndarray) -> np.ndarray:
        return np.array(request.infer([x])[result])  # its own copy, as the next call writes into the same memory

    def bound_us(x: np.ndarray) -> float:
        own = compiled.create_infer_request()
        own.set_input_tensor(openvino.Tensor(x, shared_memory=True))
        own.infer()
        begun = time.perf_counter_ns()
        own.infer()
        return (time.perf_counter_ns() - begun) / 1e3

    return Build(name=name, run=run, bound_us=bound_us)


def convolution_precisions(compiled: object) -> Counter[str]:
    """Precision ("u8", "f32", ...) -> how many convolutions and dense layers of a compiled model are executed in it."""
    found: Counter[str] = Counter()
    for operator in compiled.get_runtime_model().get_ops():
        info = operator.get_rt_info()
        if info["layerType"].astype(str) in ("Convolution", "FullyConnected", "MatMul"):
            found[info["runtimePrecision"].astype(str)] += 1
    return found
