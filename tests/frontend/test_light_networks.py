"""The nine light_* networks that ship inside the onnx package: all import, and reproduce the outputs stored beside them.

Their weights are constants and their stored outputs uniform, so one of them is also checked with random weights.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from tvm_rsq.executor import Executor
from tvm_rsq.frontend import load
from tvm_rsq.model import Model

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
# name -> (convolutions and dense layers, batch norms)
NETWORKS = {
    "bvlc_alexnet": (8, 0), "densenet121": (121, 121), "inception_v1": (58, 0), "inception_v2": (70, 69), "resnet50": (54, 53),
    "shufflenet": (50, 49), "squeezenet": (26, 0), "vgg19": (19, 0), "zfnet512": (8, 0),
}  # fmt: skip


def run_model(model: Model, x: np.ndarray) -> tuple[np.ndarray, ...]:
    with torch.no_grad():
        # In float64: equal weights make equal logits so large that the order of a float32 sum, which depends on the thread count, decides.
        return tuple(output.numpy() for output in Executor(model, dtype=torch.float64).run([torch.from_numpy(x)]))


# One whose kinds of layers others have, and 140 million weights, is left to TVM_RSQ_EVERY_NETWORK=1.
@pytest.mark.parametrize("name", [name for name in NETWORKS if os.environ.get("TVM_RSQ_EVERY_NETWORK") or name != "vgg19"])
def test_import_reproduces_the_stored_output(name):
    model = load(FOLDER / f"light_{name}.onnx")
    calls = [binding.value.op.name for binding in model.module["main"].body.blocks[0].bindings if hasattr(binding.value, "op")]
    found = calls.count("relax.nn.conv2d") + calls.count("relax.matmul"), calls.count("relax.nn.batch_norm")
    assert found == NETWORKS[name]
    assert model.name == f"light_{name}"

    shape = model.inputs[0].shape
    ramp = (np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)).astype(np.float32)  # what the package's own test runner feeds
    (got,) = run_model(model, ramp)
    expected = numpy_helper.to_array(onnx.load_tensor(FOLDER / f"light_{name}_output_0.pb"))
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-7)


def test_squeezenet_with_random_weights():
    proto = onnx.load(FOLDER / "light_squeezenet.onnx")
    generator = np.random.default_rng(0)
    constants = {node.output[0]: node for node in proto.graph.node if node.op_type == "ConstantOfShape"}
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    kept = [node for node in proto.graph.node if node.op_type != "ConstantOfShape"]
    for name, made in constants.items():
        shape = shapes[made.input[0]]
        value = generator.standard_normal(shape).astype(np.float32) * np.sqrt(2 / max(np.prod(shape[1:]), 1)).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(value, name))
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    softmax = proto.graph.node.pop()  # onnx's reference gives Softmax its newer meaning
    assert softmax.op_type == "Softmax"
    proto.graph.output[0].name = softmax.input[0]
    x = generator.standard_normal((1, 3, 224, 224)).astype(np.float32)
    (expected,) = ReferenceEvaluator(proto).run(None, {load(proto).inputs[0].name: x})
    (got,) = run_model(load(proto), x)
    assert expected.std() > 0.01  # not uniform any more
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max()))
