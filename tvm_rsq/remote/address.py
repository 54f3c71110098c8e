"""Where servers listen: addresses as users write them, and the rule that nothing is open to the network by accident."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from tvm_rsq.errors import ConfigError, DeviceError

LOOPBACK = "127.0.0.1"
_BACKLOG = 64
_HIGHEST_PORT = 65535
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # a peer that lost its power is gone after a minute


@dataclass(frozen=True, slots=True)
class Address:
    """A host, by name or number, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Of HOST:PORT, or [IPV6]:PORT.   ConfigError: `text` is something else."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) <= _HIGHEST_PORT:
        raise ConfigError(f"{text!r} is no address, expected HOST:PORT with a port up to {_HIGHEST_PORT}, such as {LOOPBACK}:9190")
    return Address(host, int(port))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`: every address that the name stands for is a loopback one.

    ConfigError: the name stands for none.
    """
    return _all_loopback(_resolved(host, None))


Place = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


def _resolved(host: str, port: int | None) -> list[Place]:
    """Families and socket addresses that `host` stands for.   ConfigError: it stands for none, or there is no such port"""
    if port is not None and not 0 <= port <= _HIGHEST_PORT:  # the resolver would take it modulo 2^16
        raise ConfigError(f"port is {port}, expected 0 (any) to {_HIGHEST_PORT}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(f"host {host!r} is unknown ({error}); give an address of this machine, such as {LOOPBACK}") from error
    return [(entry[0], entry[4]) for entry in found]


def _all_loopback(places: list[Place]) -> bool:
    return all(ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback for _, place in places)


def listen(host: str, port: int, *, open_to_network: bool) -> socket.socket:
    """A socket that takes connections at `host` and `port`; 0 is any free port.

    ConfigError: `host` is unknown, or is no loopback address and the user did not say open_to_network; no such port.
    DeviceError: the address is taken, or not this machine's.
    """
    places = _resolved(host, port)  # once: what is bound is what was looked at
    if not open_to_network and not _all_loopback(places):
        raise ConfigError(
            f"{host} is open to the network: anyone who reaches the port can run code on this machine; "
            f"use --host {LOOPBACK}, or say --open-to-network if you mean it"
        )
    try:
        family, place = places[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keep_alive(listener)  # connections inherit it
            listener.bind(place)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeviceError(f"cannot listen on {Address(host, port)}: {reason}; choose another --port or --host") from error
    return listener


def keep_alive(connection: socket.socket) -> None:
    """Notice within about a minute that the peer's machine is gone: without this, never."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def bound_to(listener: socket.socket) -> Address:
    """Where `listener` listens."""
    host, port = listener.getsockname()[:2]
    return Address(host, port)
