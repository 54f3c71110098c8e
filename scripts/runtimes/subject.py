"""What is compared: a development network that we quantize, whose export others run, or one that others quantize and we import."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

import tvm_rsq
from scripts.board_check.subject import Subject
from scripts.models.registry import Network
from scripts.peers.quantized_onnx import export_fp32
from scripts.runtimes.compare import exposed
from scripts.runtimes.quantized_elsewhere import QUANTIZERS
from scripts.runtimes.runtimes import HAVE_STORED
from tvm_rsq.onnx_export.export import qdq_network
from tvm_rsq.quantized_model import QuantizedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """quantized: what our library is made of; file: the QDQ network that stands for the same; ours: whether it is our export."""

    quantized: QuantizedModel
    file: onnx.ModelProto
    ours: bool

    def for_runtime(self, runtime: str) -> onnx.ModelProto:
        """With stored tensors as outputs where the runtime shows them."""
        if not self.ours or runtime not in HAVE_STORED:
            return self.file
        copy = onnx.ModelProto()
        copy.CopyFrom(self.file)
        return exposed(copy, self.quantized)


def network_of(text: str) -> str:
    """ValueError: an unknown network or way, in a line."""
    network, _, way = text.partition(":")
    return Subject.parse(network if way in QUANTIZERS else text).network


def compared(text: str, network: Network, images: np.ndarray, opset: int) -> Compared:
    """text: NETWORK[:WAY], as of scripts/check_boards, or NETWORK:onnxruntime, NETWORK:nncf for networks that these quantize"""
    way = text.partition(":")[2]
    if way not in QUANTIZERS:
        quantized = Subject.parse(text).quantize()
        return Compared(quantized=quantized, file=qdq_network(quantized.annotated, opset), ours=True)
    with tempfile.TemporaryDirectory() as folder:
        example = torch.from_numpy(np.asarray(network.example_inputs[0]))
        float_path, path = export_fp32(network.model, example, Path(folder) / "float.onnx"), Path(folder) / f"{way}.onnx"
        QUANTIZERS[way](float_path, images, path)
        file = onnx.load(path)
    return Compared(quantized=tvm_rsq.quantize(file, calibration=images, name=text), file=file, ours=False)
