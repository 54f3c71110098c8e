"""A network's files for ONNX Runtime: all ways of quantizing it of which the quickest counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from scripts.models.network import Network
from scripts.peers.build import PeerError
from scripts.peers.file_digest import array_digest, network_digest, short, version_digest
from scripts.peers.quantized_onnx import export_fp32, quantize_qdq, same_graph

# Name -> (activations, ONNX Runtime's own preparation before). Weights are int8 per channel, in full: nothing saturates on aarch64.
_VARIANTS = {
    "uint8": ("uint8", False),
    "int8": ("int8", False),
    "uint8 prepared": ("uint8", True),
    "int8 prepared": ("int8", True),
}


def onnx_files(network: Network, samples: np.ndarray, folder: Path) -> Mapping[str, Path]:
    """Variant -> QDQ file in `folder`, kept there; a variant with the graph of one before it is left out.

    samples   (N, C, H, W) that the ranges of activations come from
    PeerError: the network is not a torch module.
    """
    if not isinstance(network.model, torch.nn.Module):
        raise PeerError(
            f"the network is the file {network.model}, expected a torch module, which is exported; leave onnxruntime out of --builds"
        )
    origin = short(network_digest(network), version_digest(("torch", "onnx", "onnxruntime")))
    fp32 = export_fp32(network.model, network.example_inputs[0], folder / f"fp32-batch1-{short(origin)}.onnx")
    digest, files = short(origin, array_digest(samples)), {}
    for name, (activations, prepared) in _VARIANTS.items():
        path = folder / f"int8-{name.replace(' ', '-')}-activations-{digest}.onnx"
        quantize_qdq(fp32, samples, path, prepared=prepared, seven_bit=False, activations=activations)
        if not any(same_graph(path, other) for other in files.values()):
            files[name] = path
    return files
