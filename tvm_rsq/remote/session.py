"""One session, in a process of its own: started, watched, ended, and its client told what it died of."""

from __future__ import annotations

import resource
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tvm.rpc import _ffi_api

from tvm_rsq.remote import child_process
from tvm_rsq.remote.handshake import Client
from tvm_rsq.remote.registration import Registration
from tvm_rsq.remote.session_folder import session_folder
from tvm_rsq.remote.signals import HANG_UP, Signals

Launch = Callable[[int, Path], None]  # serves the session on this descriptor, uploads in this folder; called in the session's process

_GRACE_S = 2.0  # for a session to notice that its client has gone
_LONGEST_WAIT_S = 60.0
_CAUSES = {
    signal.SIGILL: "an instruction that this CPU lacks; compile for the board's own target",
    signal.SIGSEGV: "an access to memory that is not its own",
    signal.SIGBUS: "an access to memory that is not there",
    signal.SIGFPE: "an arithmetic fault",
    signal.SIGABRT: "a failed check",
    signal.SIGKILL: "something killed it; is the board out of memory?",
}


def run_session(
    client: Client, launch: Launch, *, work_dir: Path, limit_s: float | None, signals: Signals, registration: Registration | None
) -> str | None:
    """Serve `client` until its session ends, and close its connection.

    limit_s  seconds that a session may last, whatever its client asked for
    returns  why it ended, None where its client ended it
    """
    limits = [limit for limit in (client.timeout_s, limit_s) if limit]
    try:
        try:
            with session_folder(work_dir) as folder:
                reason = _run(client.connection, launch, folder, min(limits, default=None), signals, registration)
        except OSError as error:  # the disk is full, or there are too many processes
            reason = f"the board cannot start a session: {error.strerror or error}"
        if reason is not None:
            _tell(client.connection, reason)
    finally:
        client.connection.close()
    return reason


def _run(
    connection: socket.socket,
    launch: Launch,
    folder: Path,
    limit_s: float | None,
    signals: Signals,
    registration: Registration | None,
) -> str | None:
    connection.set_inheritable(True)

    def serve() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would go with the folder
        launch(connection.fileno(), folder)

    child = child_process.start(serve)
    try:
        reason = _watch(child, connection, limit_s, signals, registration)
    except BaseException:
        child_process.end(child)
        raise
    status = child_process.end(child)
    return reason or _cause(status)


def _watch(
    child: int, connection: socket.socket, limit_s: float | None, signals: Signals, registration: Registration | None
) -> str | None:
    """Wait for the child's end; the reason where it is to be ended."""
    begun = time.monotonic()
    deadline = begun + limit_s if limit_s else float("inf")
    left_at: float | None = None
    while not child_process.has_ended(child):
        now = time.monotonic()
        if now >= deadline:
            # A name that TVM's client makes an error of its own of.
            return f"RPCSessionTimeoutError: the session was ended after {limit_s:g} s; ask for a longer session_timeout"
        if left_at is not None and now >= left_at + _GRACE_S:
            return "the client has gone"
        due = [deadline - now, _LONGEST_WAIT_S]
        if left_at is not None:
            due.append(left_at + _GRACE_S - now)
        if registration is not None:
            due.append(registration.due())
        if connection in signals.wait({} if left_at is not None else {connection: HANG_UP}, min(due)):
            left_at = time.monotonic()
        if registration is not None:
            registration.attend()
    return None


def _cause(status: int) -> str | None:
    if status == 0:
        return None
    if status > 0:
        return f"the session ended with an error, status {status}; the server's log says more"
    name = signal.Signals(-status).name
    return f"the session died of {name}: {_CAUSES.get(signal.Signals(-status), 'the library that ran in it, most likely')}"


def _tell(connection: socket.socket, reason: str) -> None:
    """As the answer to the call that the client waits in, or to its next one."""
    try:
        _ffi_api.ReturnException(connection.fileno(), reason)
        connection.shutdown(socket.SHUT_WR)
    except (OSError, RuntimeError):  # it has gone
        pass
