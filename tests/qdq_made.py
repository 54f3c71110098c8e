"""The network behind tests/data/qdq-*.onnx, and how these files are made:   python -m tests.qdq_made   (takes the extra peers)

ONNX Runtime's quantize_static and NNCF each wrote one. qdq-answers.npz holds what ONNX Runtime gives for them, without its graph
optimizations, on `samples(4, seed=1)`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

DATA = Path(__file__).parent / "data"
SHAPE = (1, 3, 16, 16)


class Mixed(nn.Module):
    """A residual, a depthwise layer with batch norm and hardswish, a gate, a concatenation of unequal scales, relu6, a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pool = nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2)
        self.depthwise, self.norm, self.second = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)
        self.gate, self.last, self.dense = nn.Conv2d(8, 8, 1), nn.Conv2d(16, 12, 3, stride=2), nn.Linear(12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = self.pool(x + self.second(nn.functional.hardswish(self.norm(self.depthwise(x)))))
        x = torch.cat([x, x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))], 1)
        return self.dense(nn.functional.relu6(self.last(x)).mean((2, 3)))


def mixed() -> nn.Module:
    torch.manual_seed(0)
    network = Mixed().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    return network


def samples(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *SHAPE[1:]), np.float32)


def remake() -> None:
    import onnxruntime

    from scripts.peers.quantized_onnx import export_fp32
    from scripts.runtimes.quantized_elsewhere import QUANTIZERS

    inputs, answers = samples(4, seed=1), {}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        network = export_fp32(mixed(), torch.zeros(SHAPE), Path(folder) / "mixed.onnx")
        for name, quantize in QUANTIZERS.items():
            path = DATA / f"qdq-{name}.onnx"
            path.unlink(missing_ok=True)
            quantize(network, samples(16, seed=0), path)
            session = onnxruntime.InferenceSession(str(path), options)
            entry = session.get_inputs()[0].name
            answers[name] = np.concatenate([session.run(None, {entry: inputs[i : i + 1]})[0] for i in range(len(inputs))])
    np.savez(DATA / "qdq-answers.npz", **answers)


if __name__ == "__main__":
    remake()
