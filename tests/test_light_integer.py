"""The nine light_* networks compile to integer libraries whose every stored tensor equals the simulation, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import tvm_rsq
from tvm_rsq.compiler import compile_exposed

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
# What may stay in float: the softmax at the end, and local response normalisation where a network has it.
LRN = {"multiply", "permute_dims", "expand_dims", "nn.avg_pool3d", "squeeze", "add", "power", "divide", "nn.max_pool2d"}
IN_FLOAT = {
    "bvlc_alexnet": LRN, "densenet121": set(), "inception_v1": LRN, "inception_v2": set(), "resnet50": set(), "shufflenet": set(),
    "squeezenet": set(), "vgg19": set(), "zfnet512": LRN,
}  # fmt: skip


@pytest.mark.parametrize("name", IN_FLOAT)
def test_the_integer_library_equals_the_simulation(name):
    noise = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    config = tvm_rsq.QuantConfig(scheme="per_channel", range_method="min_max")
    quantized = tvm_rsq.quantize(FOLDER / f"light_{name}.onnx", config, calibration=noise)
    assert {island.op for island in quantized.plan.float_islands} <= IN_FLOAT[name] | {"nn.softmax", "reshape"}
    output, *stored = compile_exposed(quantized).run(noise)
    # Both of `simulate` and `simulate_tensors` from one run: in float64 it takes most of this test.
    (expected,), reference = quantized._reference((noise,))
    for tensor, value in zip(quantized.plan.tensors, stored, strict=True):
        np.testing.assert_array_equal(value, reference.stored[tensor].numpy(), err_msg=tensor)
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
