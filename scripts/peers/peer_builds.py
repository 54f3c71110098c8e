"""ONNX Runtime's and OpenVINO's builds of a network, FP32 and int8, from one ONNX file each."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from scripts.models.network import Network
from scripts.peers.build import Build, PeerError
from scripts.peers.file_digest import array_digest, network_digest, short, version_digest
from scripts.peers.quantized_onnx import VARIANTS, export_fp32, quantize_qdq, same_graph
from scripts.peers.run_onnxruntime import onnxruntime_build
from scripts.peers.run_openvino import openvino_build
from scripts.peers.work_folder import WorkFolder


def missing_packages(peers: Sequence[str]) -> list[str]:
    """What is not installed of what these peers need; both are quantized by ONNX Runtime's tools."""
    return [name for name in sorted({*peers, *(["onnxruntime"] if peers else [])}) if importlib.util.find_spec(name) is None]


def peer_builds(
    model: str, network: Network, *, batch: int, threads: int, samples: np.ndarray, source: str, peers: Sequence[str], folder: WorkFolder
) -> dict[str, Build]:
    """Name -> build: "<peer> fp32" and "<peer> int8 <variant>" of every variant that differs from the ones before it.

    samples  (N, C, H, W) that the ranges of activations come from; `source` is what they are called in file names
    PeerError: a package is missing, or the network is not a torch module.
    """
    if missing := missing_packages(peers):
        raise PeerError(
            f"{' and '.join(missing)} not installed; run: .venv/bin/pip install -c constraints.txt -e '.[peers]', or give --peers none"
        )
    if not isinstance(network.model, torch.nn.Module):
        raise PeerError(f"{model} is the file {network.model}, expected a torch module, which is exported for the peers; give --peers none")
    example = network.example_inputs[0][:1].expand(batch, *network.example_inputs[0].shape[1:]).contiguous()
    home, origin = folder.of(model), short(network_digest(network), version_digest(("torch", "onnx", "onnxruntime")))
    fp32 = export_fp32(network.model, example, home / f"fp32-batch{batch}-{short(origin)}.onnx")
    quantized = short(origin, array_digest(samples))
    files: dict[str, Path] = {}
    for variant, (prepared, seven_bit) in VARIANTS.items() if peers else ():
        path = home / f"int8-{variant}-{source}-batch{batch}-{quantized}.onnx"
        quantize_qdq(fp32, samples, path, prepared=prepared, seven_bit=seven_bit)
        if not any(same_graph(path, other) for other in files.values()):
            files[variant] = path
    builds: dict[str, Build] = {}
    if "onnxruntime" in peers:
        builds["onnxruntime fp32"] = onnxruntime_build("onnxruntime fp32", fp32, threads)
        for variant, path in files.items():
            builds[f"onnxruntime int8 {variant}"] = onnxruntime_build(f"onnxruntime int8 {variant}", path, threads)
    if "openvino" in peers:
        builds["openvino fp32"] = openvino_build("openvino fp32", fp32, threads, int8=False)
        for variant, path in files.items():
            builds[f"openvino int8 {variant}"] = openvino_build(f"openvino int8 {variant}", path, threads, int8=True)
    return builds
