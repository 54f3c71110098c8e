"""A board that is this machine: whole networks run in its sessions, by several threads, and everything that a tuner asks for is there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.error import RPCSessionTimeoutError

from tests.remote.programs import Program, running
from tests.small_network import compiled, image


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    before = os.environ.get("TVM_NUM_THREADS")
    os.environ["TVM_NUM_THREADS"] = "2"
    try:
        with running(tmp_path_factory.mktemp("serve"), "serve") as program:
            yield program
    finally:
        if before is None:
            del os.environ["TVM_NUM_THREADS"]
        else:
            os.environ["TVM_NUM_THREADS"] = before


def test_a_network_answers_as_here(server, tmp_path):
    library = tmp_path / "net.so"
    library.write_bytes(compiled().contents.library)
    for _ in range(2):  # each session makes threads of its own
        check_session(server, library)


def check_session(server: Program, library: Path) -> None:
    """Of one; when it returns, the session has ended."""
    session = server.connect(session_timeout=60)
    session.upload(str(library))
    device = session.cpu()
    machine = relax.VirtualMachine(session.load_module(library.name), device)
    argument = tvm.runtime.tensor(image(), device)
    np.testing.assert_array_equal(machine["main"](argument).numpy(), compiled().run(image()))
    assert len(machine.time_evaluator("main", device, number=2, repeat=3)(argument).results) == 3


def test_what_a_tuner_asks_for_is_there(server):
    session = server.connect()
    tensor = tvm.runtime.empty((64,), "float32", session.cpu())
    session.get_function("tvm.contrib.random.random_fill_for_measure")(tensor)
    assert len(np.unique(tensor.numpy())) > 1


def test_a_client_that_does_nothing_hears_of_its_end_too(server):
    session = server.connect(session_timeout=0.5)
    time.sleep(1)
    with pytest.raises(RPCSessionTimeoutError, match="after 0.5 s"):
        session.upload(bytearray(b"x"), "x")
