"""An RPC server that no session can take down: it lets clients in, one at a time, and leaves the rest to a process for each.

TVM's own server ends with a session that dies of a signal, and goes on listening all the same, so that the next client waits for ever.
The protocol is TVM's; its clients and trackers work with this server as they are.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tvm_rsq.errors import ConfigError
from tvm_rsq.remote.address import Address, bound_to, is_loopback
from tvm_rsq.remote.handshake import Client, greet
from tvm_rsq.remote.registration import Registration
from tvm_rsq.remote.session import Launch, run_session
from tvm_rsq.remote.signals import READABLE, Signals, Stopped
from tvm_rsq.remote.work_folder import work_folder

_WILDCARDS = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """tracker    where to register; None: clients come on their own
    key        what clients ask the tracker for
    work_dir   sessions' folders are made in it, and it is made if need be; None: in a temporary folder
    limit_s    the longest session, None: as long as the client asks for

    ConfigError: a value that cannot be honoured.
    """

    tracker: Address | None = None
    key: str = ""
    work_dir: Path | None = None
    limit_s: float | None = None

    def __post_init__(self) -> None:
        if not all(character.isprintable() and character not in ": " for character in self.key):
            raise ConfigError(f"key is {self.key!r}, expected a name without spaces and colons, such as cortex-a76")
        if self.tracker is not None and not self.key:
            raise ConfigError("a tracker was given and no key, by which clients ask it for this board; add --key NAME")
        if self.limit_s is not None and not self.limit_s > 0:
            raise ConfigError(f"the longest session is {self.limit_s:g} s, expected more than 0")


def check_reachable(host: str, tracker: Address | None) -> None:
    """ConfigError: clients of `tracker`, on another machine, would be sent to a server that only this machine reaches."""
    if tracker is not None and is_loopback(host) and not is_loopback(tracker.host):
        raise ConfigError(
            f"the tracker {tracker} would send clients to {host}, which only this machine reaches; "
            "give --host an address of this machine, with --open-to-network"
        )


def serve(
    listener: socket.socket, launch: Launch, config: ServerConfig, report: Callable[[str], None], ready: Callable[[], None] = lambda: None
) -> None:
    """Serve clients until SIGINT, SIGTERM or SIGHUP; then the running session has ended, its folder is gone and `listener` closed.

    launch   runs a session, see session.py
    report   shows one line to the user
    ready    called once: from then on those signals stop it in order
    To be called in the main thread of a process that has never called a kernel, see child_process.py.
    """
    registration = _registration(listener, config, report)
    with Signals() as signals:  # until all is cleared up
        try:
            with listener, work_folder(config.work_dir) as work_dir:
                ready()
                while True:
                    client = _next_client(listener, config.key, registration, signals)
                    reason = run_session(
                        client, launch, work_dir=work_dir, limit_s=config.limit_s, signals=signals, registration=registration
                    )
                    report(f"session of {client.peer}: {reason or 'done'}")
        except Stopped:
            pass
        finally:
            if registration is not None:
                registration.close()


def _registration(listener: socket.socket, config: ServerConfig, report: Callable[[str], None]) -> Registration | None:
    if config.tracker is None:
        return None
    here = bound_to(listener)
    advertised = None if here.host in _WILDCARDS or is_loopback(here.host) else here.host
    return Registration(config.tracker, config.key, here.port, advertised, report)


def _next_client(listener: socket.socket, key: str, registration: Registration | None, signals: Signals) -> Client:
    if registration is not None:
        registration.offer()
    while True:
        ready = signals.wait({listener: READABLE}, None if registration is None else registration.due())
        if listener in ready:
            try:
                connection, peer = listener.accept()
            except OSError:  # it has gone already
                continue
            client = greet(connection, str(Address(*peer[:2])), key, key if registration is None else registration.matchkey)
            if client is not None:
                if registration is not None:
                    registration.withdraw()
                return client
        if registration is not None:
            registration.attend()
