"""The first words of TVM's RPC protocol, in which a client names the key of the board that it wants."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from tvm.rpc import base

_TIMEOUT_S = 5.0  # a peer that says nothing for so long keeps others waiting
_LONGEST_KEY = 4096  # bytes


@dataclass(frozen=True, slots=True)
class Client:
    """A client that was let in.

    peer       its address, for logs
    timeout_s  how long its session may last, None where it asked for no limit
    """

    connection: socket.socket
    peer: str
    timeout_s: float | None


def greet(connection: socket.socket, peer: str, key: str, matchkey: str) -> Client | None:
    """Answer a new connection; None, and `connection` closed, where the peer speaks another protocol or wants another board.

    key, matchkey  what this server is called, and what the tracker told the client to ask for; the same where there is no tracker
    """
    connection.settimeout(_TIMEOUT_S)
    try:
        if _number(connection) == base.RPC_MAGIC and 0 <= (length := _number(connection)) <= _LONGEST_KEY:
            asked, *options = base.recvall(connection, length).decode().split() or [""]
            if asked == f"client:{matchkey}":
                name = f"server:{key}".encode()
                connection.sendall(struct.pack("<ii", base.RPC_CODE_SUCCESS, len(name)) + name)
                connection.settimeout(None)
                return Client(connection, peer, _timeout(options))
            connection.sendall(struct.pack("<i", base.RPC_CODE_MISMATCH))
    except (OSError, ValueError):  # ValueError: a key that is no text, a time-out that is no number
        pass
    connection.close()
    return None


def _number(connection: socket.socket) -> int:
    return struct.unpack("<i", base.recvall(connection, 4))[0]


def _timeout(options: list[str]) -> float | None:
    for option in options:
        if option.startswith("-timeout="):
            seconds = float(option.removeprefix("-timeout="))
            if not seconds >= 0:
                raise ValueError(f"a time-out of {seconds} seconds")
            return seconds or None
    return None
