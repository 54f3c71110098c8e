"""tvm-rsq tracker, devices, and serve with a tracker; what they refuse."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from tvm import rpc

from tests.remote.programs import PATIENCE_S, Program, command, running, wait_until
from tvm_rsq.errors import ConfigError
from tvm_rsq.remote.address import Address, listen
from tvm_rsq.remote.devices import list_devices


def devices(tracker: Program) -> list[dict]:
    done = command("devices", "--tracker", tracker.address, "--json", "-")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["schema"], record["command"]) == (1, "devices")
    return record["devices"]


def counted(tracker: Program) -> dict[str, tuple[int, int, int]]:
    """What `devices` shows, without the second that a process takes to start."""
    found = list_devices(Address("127.0.0.1", tracker.port))
    return {device.key: (device.free, device.busy, device.total) for device in found}


def test_devices_are_free_and_busy(tmp_path):
    with (
        running(tmp_path, "tracker") as tracker,
        running(tmp_path, "serve", "--tracker", tracker.address, "--key", "a") as first,
        running(tmp_path, "serve", "--tracker", tracker.address, "--key", "a") as second,
        running(tmp_path, "serve", "--tracker", tracker.address, "--key", "b"),
    ):
        wait_until(lambda: counted(tracker) == {"a": (2, 0, 2), "b": (1, 0, 1)})
        (a, _) = devices(tracker)
        assert a == {"key": "a", "free": 2, "busy": 0, "total": 2, "waiting": 0, "servers": sorted([first.address, second.address])}
        session = rpc.connect_tracker("127.0.0.1", tracker.port).request("a", session_timeout=60)
        session.upload(bytearray(b"x"), "x")
        (a, _) = devices(tracker)
        assert (a["free"], a["busy"], a["total"]) == (1, 1, 2)
        shown = command("devices", "--tracker", tracker.address).stdout.splitlines()
        assert [line.split()[0] for line in shown] == ["key", "a", "b"]
        del session
        wait_until(lambda: counted(tracker) == {"a": (2, 0, 2), "b": (1, 0, 1)})
        first.stop(signal.SIGKILL)
        wait_until(lambda: counted(tracker)["a"] == (1, 0, 1))


def test_servers_register_again_at_a_tracker_that_was_restarted(tmp_path):
    with running(tmp_path, "tracker") as tracker:
        port = tracker.port
        with (
            running(tmp_path, "serve", "--tracker", tracker.address, "--key", "idle"),
            running(tmp_path, "serve", "--tracker", tracker.address, "--key", "at-work"),
        ):
            wait_until(lambda: counted(tracker) == {"at-work": (1, 0, 1), "idle": (1, 0, 1)})
            session = rpc.connect_tracker("127.0.0.1", port).request("at-work")
            assert tracker.stop() == 0
            with running(tmp_path, "tracker", "--port", str(port)) as tracker:
                wait_until(lambda: counted(tracker) == {"at-work": (0, 1, 1), "idle": (1, 0, 1)})
                session.upload(bytearray(b"x"), "x")  # it went on all the while
                del session
                wait_until(lambda: counted(tracker) == {"at-work": (1, 0, 1), "idle": (1, 0, 1)})
                rpc.connect_tracker("127.0.0.1", port).request("idle").upload(bytearray(b"x"), "x")


def test_a_server_waits_for_its_tracker(tmp_path):
    with running(tmp_path, "tracker") as tracker:
        port = tracker.port
    with running(tmp_path, "serve", "--tracker", f"127.0.0.1:{port}", "--key", "a") as server:
        wait_until(lambda: "trying again until it is there" in server.log.read_text())
        with running(tmp_path, "tracker", "--port", str(port)) as tracker:
            wait_until(lambda: counted(tracker) == {"a": (1, 0, 1)})


def test_a_client_that_was_given_a_board_and_does_not_come(tmp_path):
    with running(tmp_path, "tracker") as tracker, running(tmp_path, "serve", "--tracker", tracker.address, "--key", "a"):
        wait_until(lambda: counted(tracker) == {"a": (1, 0, 1)})
        link = rpc.connect_tracker("127.0.0.1", tracker.port)
        rpc.base.sendjson(link._sock, [rpc.base.TrackerCode.REQUEST, "a", "", 1])
        assert rpc.base.recvjson(link._sock)[0] == rpc.base.TrackerCode.SUCCESS
        assert counted(tracker) == {"a": (0, 1, 1)}
        wait_until(lambda: counted(tracker) == {"a": (1, 0, 1)})


@pytest.mark.parametrize("program", ["serve", "tracker"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_what_is_open_to_the_network_must_be_meant(program, host):
    done = command(program, "--host", host, "--port", "0")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "anyone who reaches the port can run code on this machine" in done.stderr and "--open-to-network" in done.stderr


@pytest.mark.parametrize(
    "call", ["server.serve(listener, None, server.ServerConfig(), print, stop)", "tracker.run_tracker(listener, stop)"]
)
def test_what_says_that_it_listens_can_be_stopped(call):
    """No signal comes too early: it is the first thing that happens to it here."""
    code = f"""
import os, signal
from tvm_rsq.remote import server, tracker
from tvm_rsq.remote.address import listen
listener, stop = listen("127.0.0.1", 0, open_to_network=False), lambda: os.kill(os.getpid(), signal.SIGTERM)
{call}
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=PATIENCE_S).returncode == 0


@pytest.mark.parametrize("program", ["serve", "tracker"])
def test_what_is_meant_is_done(tmp_path, program):
    with running(tmp_path, program, "--host", "0.0.0.0", "--open-to-network") as running_program:
        assert running_program.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("devices", "--tracker", "127.0.0.1:1"), "no tracker at 127.0.0.1:1: Connection refused"),
        (("devices", "--tracker", "here"), "'here' is no address, expected HOST:PORT"),
        (("serve", "--port", "0", "--tracker", "127.0.0.1:1"), "a tracker was given and no key"),
        (("serve", "--port", "0", "--tracker", "127.0.0.1:1", "--key", "a:b"), "key is 'a:b', expected a name without spaces and colons"),
        (("serve", "--port", "0", "--session-timeout", "0"), "the longest session is 0 s, expected more than 0"),
        (("serve", "--host", "no-such-host.invalid"), "host 'no-such-host.invalid' is unknown"),
        (("serve", "--tracker", "192.0.2.1:9190", "--key", "a"), "would send clients to 127.0.0.1, which only this machine reaches"),
    ],
)
def test_one_line_says_what_is_wrong(arguments, message):
    done = command(*arguments)
    assert done.returncode == 1
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_a_port_that_does_not_exist():
    for port in (-1, 70000, 10**12):
        with pytest.raises(ConfigError, match="expected 0 \\(any\\) to 65535"):
            listen("127.0.0.1", port, open_to_network=False)


def test_a_port_that_is_taken(tmp_path):
    with running(tmp_path, "tracker") as tracker:
        done = command("serve", "--port", str(tracker.port))
        assert done.returncode == 1
        assert f"cannot listen on {tracker.address}: Address already in use" in done.stderr


def test_what_is_no_tracker(tmp_path):
    with running(tmp_path, "serve") as server:
        done = command("devices", "--tracker", server.address)
        assert done.returncode == 1
        assert f"what listens at {server.address} is no tracker" in done.stderr


def test_a_work_dir_that_cannot_be_made_is_refused_before_anyone_is_told_to_come(tmp_path):
    (tmp_path / "file").write_text("")
    done = command("serve", "--port", "0", "--work-dir", str(tmp_path / "file"))
    assert done.returncode == 1 and "listening" not in done.stdout + done.stderr and "--work-dir" in done.stderr
