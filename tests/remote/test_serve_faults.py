"""Sessions that go wrong end alone, and say why; the server takes the next client."""

from __future__ import annotations

import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest
from tvm.error import RPCError, RPCSessionTimeoutError
from tvm.rpc import base

from tests.remote.faulty_kernels import faulty_library
from tests.remote.programs import PATIENCE_S, Program, descendants, is_running, running, wait_until

SMALL = 4096  # bytes, of the largest file that a board with a full disk takes


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return faulty_library(tmp_path_factory.mktemp("faulty"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One for all tests: each leaves it ready for the next, or that one fails."""
    folder = tmp_path_factory.mktemp("serve")
    with running(folder, "serve", "--work-dir", str(folder / "work")) as program:
        yield program


def loaded(server: Program, library: Path, session_timeout: float = 0):
    session = server.connect(session_timeout)
    session.upload(str(library))
    return session.load_module(library.name)


def work_folder(server: Program) -> Path:
    return server.log.parent / "work"


def check_next_client(server: Program, library: Path) -> None:
    begin_next_client(server, library).result(PATIENCE_S)


def begin_next_client(server: Program, library: Path) -> Future[None]:
    """In a thread of its own, since a server that takes no clients lets them wait for ever."""
    served: Future[None] = Future()

    def client() -> None:
        try:
            served.set_result(loaded(server, library, session_timeout=60)["fine"]())
        except BaseException as error:
            served.set_exception(error)

    threading.Thread(target=client, daemon=True).start()
    return served


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [("illegal", "SIGILL: an instruction that this CPU lacks"), ("segfault", "SIGSEGV"), ("abort", "SIGABRT"), ("leave", "status 3")],
)
def test_a_session_that_dies(server, library, kernel, reason):
    module = loaded(server, library)
    with pytest.raises(RPCError, match=reason):
        module[kernel]()
    check_next_client(server, library)


@pytest.mark.parametrize("kernel", ["hang", "spin"])
def test_a_session_that_overstays(server, library, kernel):
    module = loaded(server, library, session_timeout=1)
    with pytest.raises(RPCSessionTimeoutError, match="after 1 s; ask for a longer session_timeout"):
        module[kernel]()
    check_next_client(server, library)


def test_a_client_that_leaves_while_its_kernel_hangs(server, library):
    code = f"""
from tvm import rpc
session = rpc.connect("127.0.0.1", {server.port})
session.upload({str(library)!r})
session.load_module("faulty.so")["hang"]()
"""
    with subprocess.Popen([sys.executable, "-c", code]) as client:
        wait_until(lambda: list(work_folder(server).glob("*/hanging")))
        client.kill()
    check_next_client(server, library)


def test_the_servers_own_limit(tmp_path, library):
    with running(tmp_path, "serve", "--session-timeout", "1") as server:
        module = loaded(server, library, session_timeout=1000)
        with pytest.raises(RPCSessionTimeoutError, match="after 1 s"):
            module["hang"]()


def test_a_second_client_waits_for_the_first(server, library):
    first = loaded(server, library)
    second = begin_next_client(server, library)
    first["fine"]()
    assert not second.done()
    del first
    second.result(PATIENCE_S)


@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HTTP/1.1\r\n\r\n", struct.pack("<ii", base.RPC_MAGIC, -1), struct.pack("<ii", base.RPC_MAGIC, 4) + b"\xff" * 4],
    ids=["nothing", "HTTP", "a key of a negative length", "a key that is no text"],
)
def test_peers_that_speak_another_protocol(server, library, said):
    with socket.create_connection(("127.0.0.1", server.port)) as peer:
        peer.sendall(said)
        check_next_client(server, library)


@pytest.mark.parametrize("name", ["../outside.so", "/outside.so", "a/../../outside.so", ".."])
@pytest.mark.parametrize("what", ["upload", "download", "load_module", "remove"])
def test_a_path_that_leaves_the_folder(server, what, name):
    session = server.connect()
    with pytest.raises(RPCError, match="leaves the session's folder, expected a name inside it"):
        session.upload(bytearray(b"x"), name) if what == "upload" else getattr(session, what)(name)


def test_a_full_disk(tmp_path, library):
    def full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, SMALL))

    work = tmp_path / "work"
    with running(tmp_path, "serve", "--work-dir", str(work), before=full_disk) as server:
        session = server.connect()
        with pytest.raises(RPCError, match=r"cannot store net\.so \(5000 bytes\) on the board: File too large"):
            session.upload(bytearray(5000), "net.so")
        assert [path for path in work.rglob("*") if path.is_file()] == []
        session.upload(bytearray(b"small"), "net.so")
        assert session.download("net.so") == b"small"


def test_a_board_without_room_for_a_session(tmp_path):
    work = tmp_path / "work"
    with running(tmp_path, "serve", "--work-dir", str(work)) as server:
        work.rmdir()
        with pytest.raises(RPCError, match="the board cannot start a session: No such file or directory"):
            server.connect()
        work.mkdir()
        server.connect().upload(bytearray(b"x"), "x")


def test_uploads_go_with_their_session(server, library):
    work = work_folder(server)
    session = server.connect()
    session.upload(str(library))
    (folder,) = work.iterdir()
    assert [path.name for path in folder.iterdir()] == ["faulty.so"]
    del session
    wait_until(lambda: not list(work.iterdir()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_server_that_is_stopped_leaves_nothing(tmp_path, library, number):
    work = tmp_path / "work"
    with running(tmp_path, "serve", "--work-dir", str(work)) as server:
        module = loaded(server, library)
        (child,) = descendants(server.process.pid)
        assert server.stop(number) == 0
        assert not is_running(child)
        assert list(work.iterdir()) == []
        with pytest.raises(RuntimeError):
            module["fine"]()


def test_nohup_is_respected(tmp_path, library):
    with running(tmp_path, "serve", before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as server:
        server.process.send_signal(signal.SIGHUP)
        check_next_client(server, library)
        assert server.stop() == 0


def test_a_server_that_is_killed_leaves_no_child(tmp_path, library):
    with running(tmp_path, "serve") as server:
        module = loaded(server, library)
        (child,) = descendants(server.process.pid)
        server.stop(signal.SIGKILL)
        wait_until(lambda: not is_running(child))
        del module
