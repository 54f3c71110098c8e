"""A network whose weights are any real values and whose activations are stored as a plan says: what no integer library computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from tvm_rsq.executor import Executor
from tvm_rsq.model import Model
from tvm_rsq.plan import QuantPlan
from tvm_rsq.sensitivity import fake_quantized


def fake_quant(model: Model, plan: QuantPlan, weights: Mapping[str, np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """float32 (n, ...) -> the first output.   model: deploy form; weights: in place of the layers' own"""
    executor = Executor(model)
    params = {name: torch.from_numpy(value) for name, value in weights.items()}

    def stored(name: str, value: torch.Tensor) -> torch.Tensor | None:
        return fake_quantized(value, plan.tensors[name]) if name in plan.tensors else None

    def run(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return executor.run([torch.from_numpy(np.ascontiguousarray(x))], observe=stored, params=params)[0].numpy()

    return run
