"""ONNX Runtime as a Build."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from scripts.peers.build import Build


def onnxruntime_build(name: str, path: Path, threads: int) -> Build:
    """The file with every graph optimisation, on `threads` threads that spin between calls, as is its default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    source, result = session.get_inputs()[0].name, session.get_outputs()[0].name

    def run(x: np.ndarray) -> np.ndarray:
        return session.run(None, {source: x})[0]

    def bound_us(x: np.ndarray) -> float:
        binding = session.io_binding()
        binding.bind_ortvalue_input(source, onnxruntime.OrtValue.ortvalue_from_numpy(x))
        shape = [x.shape[0], *session.get_outputs()[0].shape[1:]]
        binding.bind_ortvalue_output(result, onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32))
        session.run_with_iobinding(binding)
        begun = time.perf_counter_ns()
        session.run_with_iobinding(binding)
        return (time.perf_counter_ns() - begun) / 1e3

    return Build(name=name, run=run, bound_us=bound_us)
