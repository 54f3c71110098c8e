"""A compiled network on a board: it runs, is timed by the board's clock, or counted."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from tvm_rsq.compiled_module import Contents, kind_of
from tvm_rsq.inputs import check_inputs
from tvm_rsq.passes.lower_islands import EXPAND
from tvm_rsq.remote.board_session import BoardSession
from tvm_rsq.remote.counts import InstructionCounts, measure


class RemoteNetwork:
    """`contents`, loaded in `session`, with the weights that are made of their codes made there.

    DeviceError: the board cannot store it, or the session ended. RuntimeError: it cannot be loaded there.
    """

    def __init__(self, session: BoardSession, contents: Contents) -> None:
        self._session, self._inputs, self._there = session, contents.inputs, session.room()

        def load(rpc: tvm.rpc.RPCSession) -> None:
            device = rpc.device(kind_of(contents))
            machine = relax.VirtualMachine(session.load(contents.library), device)
            self._there |= {"machine": machine, "device": device, "weights": _weights(machine, contents)}
            self._there["time"] = machine.module.time_evaluator("invoke_stateful", device, number=1, repeat=1)

        session.do(load)

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """The network's outputs. The inputs stay on the board for `time_us` and `counts`.   InputError: as CompiledModule.run"""
        arrays = check_inputs(self._inputs, inputs)

        def run(_rpc: tvm.rpc.RPCSession) -> tuple[np.ndarray, ...]:
            machine, device = self._there["machine"], self._there["device"]
            tensors = [tvm.runtime.tensor(array, device) for array in arrays]
            machine.set_input("main", *tensors, *self._there["weights"])
            machine.invoke_stateful("main")
            found = machine.get_outputs("main")
            return tuple(part.numpy() for part in (found if isinstance(found, tuple) else (found,)))

        return self._session.do(run)

    def time_us(self) -> float:
        """Microseconds of one inference on the inputs of the last `run`, by the board's clock, without the network in between."""
        return self._session.do(lambda _rpc: self._there["time"]("main").results[0] * 1e6)

    def counts(self) -> InstructionCounts:
        """What one inference on the inputs of the last `run` executes.   DeviceError: the board counts nothing"""
        return self._session.do(lambda rpc: measure(rpc, lambda: self._there["machine"].invoke_stateful("main")))


def _weights(machine: relax.VirtualMachine, contents: Contents) -> list[tvm.runtime.Tensor]:
    """Asked for one by one: an array of tensors does not pass the wire."""
    if not machine.module.implements_function(EXPAND):
        return []
    machine.set_input(EXPAND)
    machine.invoke_stateful(EXPAND)
    found = machine.get_outputs(EXPAND)
    return list(found) if isinstance(found, tuple) else [found]
