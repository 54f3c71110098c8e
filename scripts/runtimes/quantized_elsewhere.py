"""Float ONNX networks, quantized by others: what an import of their QDQ files is held against."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx


def onnxruntime_qdq(network: Path, samples: np.ndarray, made: Path) -> None:
    """ONNX Runtime's quantize_static, int8 weights per channel, uint8 activations."""
    from scripts.peers.quantized_onnx import quantize_qdq

    quantize_qdq(network, samples, made, prepared=True, seven_bit=False)


def nncf_qdq(network: Path, samples: np.ndarray, made: Path) -> None:
    """NNCF's post-training quantization of ONNX networks."""
    import nncf

    nncf.set_log_level(logging.ERROR)
    model = onnx.load(network)
    name = model.graph.input[0].name
    data = nncf.Dataset([{name: sample[None]} for sample in samples])
    onnx.save(nncf.quantize(model, data, subset_size=len(samples)), made)


QUANTIZERS: Mapping[str, Callable[[Path, np.ndarray, Path], None]] = {"onnxruntime": onnxruntime_qdq, "nncf": nncf_qdq}
"""name -> what writes a QDQ network of the float one, calibrated on (n, ...) float32 samples"""
