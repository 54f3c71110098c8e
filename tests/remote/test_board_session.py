"""Sessions on boards: what runs there, and what becomes of a session that goes wrong. The boards are TVM's own servers on this machine."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest

from tests import small_network
from tests.integer_case import noise
from tests.remote.faulty_kernels import faulty_library
from tests.remote.local_fleet import local_fleet
from tests.remote.programs import descendants
from tests.tiny_networks import classifier
from tvm_rsq import DeviceError, QuantConfig, quantize
from tvm_rsq.remote import board_session
from tvm_rsq.remote.board_session import SessionLost, open_session
from tvm_rsq.remote.remote_network import RemoteNetwork
from tvm_rsq.remote.request_board import NoBoard

FAST = {"session_timeout_s": 60.0}


@pytest.fixture(scope="module")
def fleet():
    with local_fleet() as made:
        made.board("plain")
        yield made


def quiet(_why: str) -> None:
    pass


def session(fleet, key="plain", **settings):
    return open_session(fleet.device(key, **{**FAST, **settings}), quiet)


def test_a_network_answers_there_as_here_and_is_timed_by_the_board(fleet):
    module, image = small_network.compiled(), small_network.image()
    with session(fleet) as there:
        network = RemoteNetwork(there, module.contents)
        (found,) = network.run(image)
        assert not there.emulated and network.time_us() > 0
    np.testing.assert_array_equal(found, module.run(image))
    fleet.wait_for(lambda: not fleet.busy("plain"))  # the board is given back


def test_weights_that_are_made_of_codes_are_made_there(fleet):
    config = QuantConfig(scheme="per_channel", weight_bits=4, nonuniform=True, rounding="nearest")
    module = quantize(classifier(), config, calibration=noise(8, 3, 16, 16)).compile()
    image = small_network.image()
    assert module._vm()._weights
    with session(fleet) as there:
        (found,) = RemoteNetwork(there, module.contents).run(image)
    np.testing.assert_array_equal(found, module.run(image))


def call(there, library, name):
    data = library.read_bytes()
    there.do(lambda _rpc: there.load(data)[name]())


def test_what_a_kernel_raises_leaves_the_session_alive(fleet, tmp_path):
    library = faulty_library(tmp_path)
    with session(fleet) as there:
        call(there, library, "fine")
        with pytest.raises(AttributeError):
            call(there, library, "nothing_of_that_name")
        call(there, library, "fine")


def test_a_kernel_that_hangs_costs_its_session_and_no_more(fleet, tmp_path):
    with session(fleet, session_timeout_s=2.0) as there, pytest.raises(SessionLost, match="has expired|session_timeout"):
        call(there, faulty_library(tmp_path), "spin")
    assert not there.alive
    with session(fleet) as again:
        call(again, faulty_library(tmp_path), "fine")


def test_a_board_that_does_not_answer_is_left_behind(fleet, monkeypatch, tmp_path):
    """As when its power goes: nothing is said any more, and TVM's client would wait for ever."""
    monkeypatch.setattr(board_session, "_GRACE_S", 0.5)
    board = fleet.board("mute")
    with session(fleet, "mute", session_timeout_s=1.0) as there:
        for process in descendants(board.pid):
            os.kill(process, signal.SIGSTOP)
        os.kill(board.pid, signal.SIGSTOP)
        with pytest.raises(SessionLost, match="board mute at 127.0.0.1:.* does not answer any more"):
            call(there, faulty_library(tmp_path), "fine")
    fleet.kill(board)


@pytest.mark.parametrize("fault", ["illegal", "leave"])
def test_a_kernel_that_takes_its_process_down_loses_the_session(fleet, tmp_path, fault):
    board = fleet.board(fault)  # TVM's own server does not survive it
    with session(fleet, fault) as there:
        call(there, faulty_library(tmp_path), "fine")
        with pytest.raises(SessionLost, match=f"board {fault} at 127.0.0.1:.* ended the session: "):
            call(there, faulty_library(tmp_path), fault)
    fleet.kill(board)


def test_a_full_disk_is_said(fleet, tmp_path):
    fleet.board("full", "--largest-file", "4096")
    with session(fleet, "full") as there:
        with pytest.raises(DeviceError, match=r"board full at .* (kept 4096 of \d+ bytes|cannot store \d+ bytes).*room") as found:
            RemoteNetwork(there, small_network.compiled().contents)
        assert not isinstance(found.value, SessionLost) and "\n" not in str(found.value)


def test_no_tracker_and_no_such_key_are_said(fleet):
    with pytest.raises(NoBoard, match="no board other at the tracker .*, registered are .*plain.*; start one with `tvm-rsq serve"):
        session(fleet, "other", patience_s=0.2)
    with pytest.raises(DeviceError, match="no tracker at 127.0.0.1:1"):
        session(fleet, tracker="127.0.0.1:1", patience_s=0.2)


def test_a_second_client_waits_and_says_so(fleet):
    said, opened = [], threading.Event()

    def second() -> None:
        with open_session(fleet.device("plain", **FAST), said.append):
            opened.set()

    with session(fleet):
        thread = threading.Thread(target=second)
        thread.start()
        fleet.wait_for(lambda: said)
        assert not opened.is_set() and "all boards plain are in use (1); waiting for one" in said
    assert opened.wait(60)
    thread.join()


def test_a_tracker_that_is_restarted_is_waited_for(fleet):
    said = []

    def waiting(why: str) -> None:
        said.append(why)
        if len(said) == 1:
            fleet.tracker.start()

    fleet.tracker.stop()
    with open_session(fleet.device("plain", **FAST | {"patience_s": 60.0}), waiting) as there:
        assert there.alive and any("no tracker at" in why for why in said)
