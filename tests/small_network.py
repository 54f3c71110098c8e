"""One small quantized network and its library, made once for all tests of what surrounds them."""

from __future__ import annotations

import functools

import numpy as np

import tvm_rsq
from tests.integer_case import noise
from tests.tiny_networks import classifier
from tvm_rsq.compiled_module import CompiledModule
from tvm_rsq.compiler import compile_quantized
from tvm_rsq.quantized_model import QuantizedModel

SHAPE = (1, 3, 16, 16)


@functools.cache
def quantized() -> QuantizedModel:
    """conv - conv - dense, hybrid, with a softmax in float."""
    return tvm_rsq.quantize(classifier(softmax=True), calibration=noise(8, *SHAPE[1:]))


@functools.cache
def compiled() -> CompiledModule:
    return compile_quantized(quantized())


def image(seed: int = 0) -> np.ndarray:
    return noise(*SHAPE, seed=seed)
