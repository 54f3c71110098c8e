"""Emulated boards: they start and stop without a trace, compute what this machine computes, and outlive their sessions."""

from __future__ import annotations

import os
import re
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax, rpc
from tvm.error import RPCError, RPCSessionTimeoutError

import tvm_rsq
from scripts.emulator import runtime_libraries
from scripts.emulator.boards import DEFAULT_KEYS, chosen_boards
from scripts.emulator.toolchain import LLVM, PACKAGES, EmulatorError, check_cpus, ensure_llvm, ensure_toolchain
from tests.integer_case import noise
from tests.remote.emulated_boards import ROOT, emulator, skip_without_programs
from tests.remote.faulty_kernels import faulty_library
from tests.remote.programs import PATIENCE_S, descendants, is_running, wait_until
from tests.tiny_networks import classifier
from tvm_rsq.compiler import compile_quantized
from tvm_rsq.remote.address import Address
from tvm_rsq.remote.devices import list_devices
from tvm_rsq.targets.llvm_tools import OLDEST

SHAPE = (1, 3, 16, 16)
LLVM_TOOLS = f"llvm-mca-{OLDEST}", f"llvm-mc-{OLDEST}"
SMALL = 1 << 20  # bytes, of the largest file that a board with a full disk takes


@pytest.fixture(scope="module")
def tracker() -> Iterator[rpc.TrackerSession]:
    with emulator() as (_, port, _):
        yield rpc.connect_tracker("127.0.0.1", port)


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return faulty_library(tmp_path_factory.mktemp("faulty"), "aarch64")


def loaded(tracker: rpc.TrackerSession, key: str, library: Path, session_timeout: float = 60):
    session = tracker.request(key, session_timeout=session_timeout)
    session.upload(str(library))
    return session.load_module(library.name)


def test_a_network_is_bit_equal_on_all_boards(tracker, tmp_path):
    quantized = tvm_rsq.quantize(classifier(), calibration=noise(8, *SHAPE[1:]))
    image = noise(*SHAPE, seed=1)
    expected = compile_quantized(quantized).run(image)
    for target in ("llvm -mtriple=aarch64", "cortex-a76"):
        library = tmp_path / "net.so"
        library.write_bytes(quantized.compile(target).contents.library)
        for key in DEFAULT_KEYS if target != "cortex-a76" else DEFAULT_KEYS[1:]:
            session = tracker.request(key, session_timeout=60)
            session.upload(str(library))
            device = session.cpu()
            machine = relax.VirtualMachine(session.load_module("net.so"), device)
            found = machine["main"](tvm.runtime.tensor(image, device)).numpy()
            np.testing.assert_array_equal(found, expected, err_msg=f"{target} on {key}")


def test_the_boards_have_what_their_names_say(tracker, library):
    """sdot ends a session on a72 alone."""
    for key in ("cortex-a76", "max"):
        loaded(tracker, key, library)["sdot"]()
    with pytest.raises(RPCError, match="SIGILL: an instruction that this CPU lacks; compile for the board's own target"):
        loaded(tracker, "cortex-a72", library)["sdot"]()
    loaded(tracker, "cortex-a72", library)["fine"]()


@pytest.mark.parametrize(
    ("kernel", "reason"), [("illegal", "SIGILL"), ("segfault", "SIGSEGV"), ("abort", "SIGABRT"), ("leave", "status 3")]
)
def test_a_session_that_dies(tracker, library, kernel, reason):
    with pytest.raises(RPCError, match=reason):
        loaded(tracker, "max", library)[kernel]()
    loaded(tracker, "max", library)["fine"]()


@pytest.mark.parametrize("kernel", ["hang", "spin"])
def test_a_session_that_overstays(tracker, library, kernel):
    module = loaded(tracker, "max", library, session_timeout=1)
    with pytest.raises(RPCSessionTimeoutError):
        module[kernel]()
    loaded(tracker, "max", library)["fine"]()


@pytest.mark.parametrize("what", ["upload", "download", "load_module", "remove"])
def test_a_path_that_leaves_the_folder(tracker, what):
    session = tracker.request("max", session_timeout=60)
    for name in ("../outside.so", "/outside.so", "a/../../outside.so", "..", ""):
        with pytest.raises(RPCError, match="leaves the session's folder, expected a name inside it"):
            session.get_function("tvm.rpc.server.upload")(name, bytearray(b"x")) if what == "upload" else getattr(session, what)(name)


def test_an_upload_comes_back_as_it_was(tracker):
    session = tracker.request("max", session_timeout=60)
    data = bytearray(os.urandom(100_000))
    session.upload(data, "data")
    assert session.download("data") == data
    session.remove("data")
    with pytest.raises(RPCError):
        session.download("data")


def test_what_nobody_reads_stops_no_session(tracker):
    """TVM says a line for every upload; the pipe that it goes into holds 64 KB."""
    session = tracker.request("cortex-a76", session_timeout=60)
    for _ in range(1200):
        session.upload(bytearray(b"x"), "again.so")


def test_a_full_disk(tmp_path):
    def full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, SMALL))

    with emulator("--keys", "max", before=full_disk) as (_, port, _):
        session = rpc.connect_tracker("127.0.0.1", port).request("max", session_timeout=60)
        with pytest.raises(RPCError, match=rf"cannot store net\.so \({2 * SMALL} bytes\) on the board: File too large"):
            session.upload(bytearray(2 * SMALL), "net.so")
        for name in ("net.so", "net.so.partial"):
            with pytest.raises(RPCError):
                session.download(name)
        session.upload(bytearray(b"small"), "net.so")
        assert session.download("net.so") == b"small"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_an_emulator(library, number):
    with emulator("--keys", "a76", "--boards", "2") as (process, port, line):
        assert line == f"ready: tracker 127.0.0.1:{port}, boards cortex-a76, cortex-a76\n"
        (device,) = list_devices(Address("127.0.0.1", port))
        assert (device.key, device.free, device.busy) == ("cortex-a76", 2, 0)
        tracker = rpc.connect_tracker("127.0.0.1", port)
        modules = [loaded(tracker, "cortex-a76", library) for _ in range(2)]  # both at once
        children = descendants(process.pid)
        assert len(children) == 1 + 2 + 2  # the tracker, two boards, a session each
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        wait_until(lambda: not any(map(is_running, children)))
        del modules


def test_a_session_that_is_killed_leaves_its_board(library):
    with emulator("--keys", "a72") as (process, port, _):
        tracker = rpc.connect_tracker("127.0.0.1", port)
        module = loaded(tracker, "cortex-a72", library)
        (session,) = [child for child in descendants(process.pid) if b"qemu" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0]]
        os.kill(session, signal.SIGKILL)
        with pytest.raises(RPCError, match="SIGKILL"):
            module["fine"]()
        loaded(tracker, "cortex-a72", library)["fine"]()


def test_a_board_that_dies_ends_the_emulator(library):
    with emulator("--keys", "a72") as (process, _, _):
        children = descendants(process.pid)
        os.kill(children[-1], signal.SIGKILL)
        assert process.wait(PATIENCE_S) == 1
        assert "cortex-a72 has ended" in process.stderr.read()
        wait_until(lambda: not any(map(is_running, children)))


def test_a_cpu_that_does_not_exist():
    with pytest.raises(EmulatorError, match="no CPU 'cortex-a99', expected some of cortex-a35"):
        chosen_boards(["cortex-a99"], 1)


def test_a_cpu_that_this_qemu_does_not_know():
    skip_without_programs()
    with pytest.raises(EmulatorError, match=r"qemu-aarch64 version .* knows no CPU cortex-a99; install QEMU 7\.2 or newer"):
        check_cpus(["max", "cortex-a99"])


@pytest.mark.parametrize("works", [True, False])
@pytest.mark.parametrize(
    ("ensure", "programs", "packages"), [(ensure_toolchain, PACKAGES, "qemu-user g++-aarch64-linux-gnu"), (ensure_llvm, LLVM_TOOLS, LLVM)]
)
def test_what_is_missing_is_installed_by_root_on_debian(monkeypatch, tmp_path, ensure, programs, packages, works):
    copies = "; ".join(f"cp {tmp_path}/program {tmp_path / program}" for program in programs)
    makes = copies if works else "echo E: no network >&2; exit 100"
    (tmp_path / "program").write_text(f"#!/bin/sh\necho LLVM version {OLDEST}.1.7\n")
    (tmp_path / "apt-get").write_text(f'#!/bin/sh\nPATH=/bin:/usr/bin\necho "$@" >> {tmp_path}/log\n[ $1 = update ] || {{ {makes}; }}\n')
    for program in ("program", "apt-get"):
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmulatorError, match=f"run: apt.* install .*{re.escape(packages)}"):
        ensure(install=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(EmulatorError, match=f"run: apt.* install .*{re.escape(packages)}"):
        ensure(install=True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    if works:
        ensure(install=True)
    else:
        with pytest.raises(EmulatorError, match="apt-get install -y .* failed: E: no network"):
            ensure(install=True)
    assert (tmp_path / "log").read_text().splitlines() == ["update", f"install -y --no-install-recommends {packages}"]


def test_the_runtime_is_that_of_the_constraints():
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert {f"{wheel.package}=={wheel.version}" for wheel in runtime_libraries.WHEELS} <= set(pins)
