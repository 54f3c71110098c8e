"""The nine light_* networks compile to integer libraries whose every stored tensor equals the simulation, bit for bit.

The simulation in float64 takes most of the time, so four see smaller pictures, and have as many fewer weights behind their flattening.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tvm_rsq
from tvm_rsq.compiler import compile_exposed

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
# What may stay in float: the softmax at the end, and local response normalisation where a network has it.
LRN = {"multiply", "permute_dims", "expand_dims", "nn.avg_pool3d", "squeeze", "add", "power", "divide", "nn.max_pool2d"}
IN_FLOAT = {
    "bvlc_alexnet": LRN, "densenet121": set(), "inception_v1": LRN, "inception_v2": set(), "resnet50": set(), "shufflenet": set(),
    "squeezenet": set(), "vgg19": set(), "zfnet512": LRN,
}  # fmt: skip
SIDES = {"bvlc_alexnet": 112, "densenet121": 96, "vgg19": 64, "zfnet512": 112}  # the others pool a window of 7x7 at their end


def network(name: str, side: int) -> onnx.ModelProto:
    """The network for pictures of side x side; the shapes of its weights are constants of the graph."""
    proto = onnx.load(FOLDER / f"light_{name}.onnx")
    made = {tensor.name for tensor in proto.graph.initializer}
    (picture,) = (value for value in proto.graph.input if value.name not in made)
    for dim in picture.type.tensor_type.shape.dim[2:]:
        dim.dim_value = side
    flatten = next((node for node in proto.graph.node if node.op_type == "Reshape"), None)
    if flatten is None or side == 224:
        return proto
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    shapes = {value.name: value.type.tensor_type.shape for value in onnx.shape_inference.infer_shapes(proto).graph.value_info}
    before, after = values[flatten.input[1]][1], np.prod([dim.dim_value for dim in shapes[flatten.input[0]].dim])
    for tensor in proto.graph.initializer:
        if before in values[tensor.name]:
            tensor.CopyFrom(numpy_helper.from_array(np.where(values[tensor.name] == before, after, values[tensor.name]), tensor.name))
    return proto


# Three whose kinds of layers others have are left to TVM_RSQ_EVERY_NETWORK=1, and to scripts/check_boards.
NAMES = [name for name in IN_FLOAT if os.environ.get("TVM_RSQ_EVERY_NETWORK") or name not in ("inception_v1", "vgg19", "zfnet512")]


@pytest.mark.parametrize("name", NAMES)
def test_the_integer_library_equals_the_simulation(name):
    side = SIDES.get(name, 224)
    noise = np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)
    config = tvm_rsq.QuantConfig(scheme="per_channel", range_method="min_max")
    quantized = tvm_rsq.quantize(network(name, side), config, calibration=noise)
    assert {island.op for island in quantized.plan.float_islands} <= IN_FLOAT[name] | {"nn.softmax", "reshape"}
    output, *stored = compile_exposed(quantized).run(noise)
    # Both of `simulate` and `simulate_tensors` from one run: in float64 it takes most of this test.
    (expected,), reference = quantized._reference((noise,))
    for tensor, value in zip(quantized.plan.tensors, stored, strict=True):
        np.testing.assert_array_equal(value, reference.stored[tensor].numpy(), err_msg=tensor)
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
