"""The runtimes that a QDQ network is run in: one image -> every output by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx

Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def onnxruntime_run(network: onnx.ModelProto, *, optimized: bool = True) -> Run:
    """ONNX Runtime on the CPU; not optimized, it runs one node after the other as they stand."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(network.SerializeToString(), options, providers=["CPUExecutionProvider"])
    entry, outputs = session.get_inputs()[0].name, [each.name for each in session.get_outputs()]
    return lambda image: dict(zip(outputs, session.run(None, {entry: image}), strict=True))


def openvino_run(network: onnx.ModelProto) -> Run:
    """OpenVINO on the CPU; what is not integer runs in float32."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(network.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [each.name for each in network.graph.output]

    def run(image: np.ndarray) -> Mapping[str, np.ndarray]:
        found = compiled([image])
        return {name: np.array(found[name]) for name in names}

    return run


RUNTIMES: Mapping[str, Callable[[onnx.ModelProto], Run]] = {
    "onnxruntime": onnxruntime_run,
    "onnxruntime-plain": lambda network: onnxruntime_run(network, optimized=False),
    "openvino": openvino_run,
}
HAVE_STORED = ("onnxruntime", "onnxruntime-plain")
"""Those that hand out stored tensors, too, and compute the same with or without that."""
