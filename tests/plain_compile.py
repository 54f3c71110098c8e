"""Compile and run a module with TVM's default pipeline: the reference that owes nothing to this project's kernels or executor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tvm
from tvm import relax
from tvm.ir import IRModule
from tvm.target import Target

from tvm_rsq.model import Model


def run_plain(module: IRModule, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of main for all its arguments, parameters included."""
    executable = tvm.compile(module, target=Target({"kind": "llvm"}))
    machine = relax.VirtualMachine(executable, tvm.cpu())
    result = machine["main"](*[tvm.runtime.tensor(np.asarray(array, order="C")) for array in arrays])
    return [result.numpy()] if isinstance(result, tvm.runtime.Tensor) else [entry.numpy() for entry in result]


def run_model(model: Model, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of a Model for its inputs."""
    return run_plain(model.module, [*inputs, *model.params.values()])
