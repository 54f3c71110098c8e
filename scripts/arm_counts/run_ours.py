"""One inference of a library of ours on an emulated board, counted."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tvm
from tvm import relax, rpc

from tvm_rsq.compiled_module import CompiledModule
from tvm_rsq.passes.lower_islands import EXPAND
from tvm_rsq.remote.counts import InstructionCounts, measure


def run_ours(session: rpc.RPCSession, module: CompiledModule, x: np.ndarray) -> tuple[InstructionCounts, np.ndarray]:
    """(counts of the second call, its output).   x: the network's float32 input (N, C, H, W)"""
    with tempfile.TemporaryDirectory(prefix="tvm-rsq-") as folder:
        library = Path(folder) / "network.so"
        library.write_bytes(module.contents.library)
        session.upload(str(library))
    device = session.cpu()
    loaded = session.load_module("network.so")
    machine = relax.VirtualMachine(loaded, device)
    main = machine["main"]
    weights = tuple(machine[EXPAND]()) if machine.module.implements_function(EXPAND) else ()
    arguments = (tvm.runtime.tensor(x, device), *weights)
    main(*arguments)  # finds its functions
    output = None

    def call() -> None:
        nonlocal output
        output = main(*arguments)

    counts = measure(session, call)
    return counts, output.numpy()
