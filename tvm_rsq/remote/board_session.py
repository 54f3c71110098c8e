"""A session on a board: libraries go up, are checked and loaded, and what goes wrong is told apart.

    what went wrong                                      raised
    the library, or what it was given                    TVM's own error, as on this machine; the session lives
    the session: a signal, a time-out, a lost board      SessionLost; the board may be there again in a moment
    the board keeps less than was sent: a full disk      DeviceError; it would happen again
"""

from __future__ import annotations

import gc
import hashlib
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import tvm.rpc
from tvm.runtime import Module

from tvm_rsq.errors import DeviceError, Error
from tvm_rsq.remote.address import parse_address
from tvm_rsq.remote.board_thread import BoardThread, LeftBehind
from tvm_rsq.remote.counts import counts_instructions
from tvm_rsq.remote.device import RemoteDevice
from tvm_rsq.remote.request_board import Waiting, request_board

log = logging.getLogger(__name__)
T = TypeVar("T")

_GREETING_S = 20.0  # a board that was just handed out answers at once
_GRACE_S = 15.0  # for a board to end a session itself, and say why
_MOST = 300  # characters of a board's error
_UNLOADABLE = "Failed to load dynamic shared library"
_ATTEMPTS = 3  # boards that were handed out and do not answer


class SessionLost(DeviceError):
    """The session ended under our hands."""


class _NotStored(Exception):
    """What the board did with an upload."""


class BoardSession:
    """An open session; see `open_session`. Everything that touches the board is done by `do`, in one thread.

    opened_s  when, on the monotonic clock
    emulated  whether the board says that it is: it counts instructions, and its wall time means nothing
    kept      what a user of the session has loaded and may want again, by names of its own
    """

    def __init__(self, device: RemoteDevice, place: str, thread: BoardThread, rpc: tvm.rpc.RPCSession) -> None:
        self.device, self.place, self.opened_s = device, place, time.monotonic()
        self._thread, self._rpc, self._files = thread, rpc, 0
        self._rooms: list[dict[str, Any]] = []
        self.kept: dict[Any, Any] = {}
        self.emulated = self.do(counts_instructions)

    @property
    def alive(self) -> bool:
        """Whether it can be used: neither closed nor lost, as far as is known."""
        return self._rpc is not None

    def do(self, work: Callable[[tvm.rpc.RPCSession], T]) -> T:
        """What `work` makes of TVM's session. What it returns must not hold on to the board: close() could not give it back.

        SessionLost: the session ended. Anything else: as `work` raises it, and the session lives.
        """
        rpc = self._rpc
        if rpc is None:
            raise SessionLost(f"the session with {self.device.key} is closed")
        try:
            return self._thread.call(lambda: work(rpc), self.device.session_timeout_s + _GRACE_S)
        except LeftBehind:
            self._rpc = None
            raise SessionLost(f"board {self.device.key} at {self.place} does not answer any more") from None
        except Error:
            raise
        except Exception as error:  # TVM raises a board's errors as whatever they were there
            if why := self._lost(rpc, error):
                raise SessionLost(f"board {self.device.key} at {self.place} ended the session: {why}") from error
            if isinstance(error, _NotStored):
                raise DeviceError(f"board {self.device.key} at {self.place} {error}") from error
            raise

    def load(self, library: bytes) -> Module:
        """Upload a shared library and load it there; for use inside `do` alone.

        DeviceError, from `do`: the board did not keep it whole. RuntimeError: it cannot be loaded.
        """
        rpc, self._files = self._rpc, self._files + 1
        name = f"{hashlib.sha256(library).hexdigest()[:12]}-{self._files}.so"
        try:
            rpc.upload(bytearray(library), name)
            kept = bytes(rpc.download(name))  # a full disk is nothing that TVM's own server reports
        except Exception as error:
            raise _NotStored(f"cannot store {len(library)} bytes ({last_line(error)}); make room there") from error
        if kept != library:
            raise _NotStored(f"kept {len(kept)} of {len(library)} bytes: is its disk full? Make room there")
        return rpc.load_module(name)

    def room(self) -> dict[str, Any]:
        """Where what lives on the board is kept between calls of `do`; emptied when the session is closed."""
        self._rooms.append({})
        return self._rooms[-1]

    def use_threads(self, count: int) -> None:
        """Let the board run kernels on so many threads, where its runtime can be told."""

        def configure(rpc: tvm.rpc.RPCSession) -> None:
            try:
                configure = rpc.get_function("runtime.config_threadpool")
            except AttributeError:  # a small runtime without
                return
            configure(1, count)

        self.do(configure)

    def close(self) -> None:
        """Give the board back; nothing where the session is lost."""
        rpc, self._rpc = self._rpc, None
        if rpc is None:
            return
        holders = [[rpc], *self._rooms]
        del rpc

        def let_go() -> None:
            for holder in reversed(holders):
                holder.clear()
            gc.collect()  # TVM's virtual machine leaves cycles behind, which would hold the board until whenever

        try:
            self._thread.call(let_go, _GRACE_S)
        except LeftBehind:
            pass
        self._thread.leave()

    def abandon(self) -> None:
        """Wait for nothing: whoever waits for the board gets SessionLost."""
        self._rpc = None
        self._thread.leave()

    def _lost(self, rpc: tvm.rpc.RPCSession, error: Exception) -> str | None:
        """Why the session is over; None where it lives: a board that still answers does."""
        try:
            self._thread.call(lambda: rpc.get_function("runtime.ModuleLoadFromFile"), _GRACE_S)
        except (RuntimeError, LeftBehind) as gone:
            self.abandon()
            log.debug("session with %s lost: %s; then: %s", self.place, error, gone)
            return last_line(error)
        except (AttributeError, ValueError):  # it answers, if only that it has no such function
            pass
        return None

    def __enter__(self) -> BoardSession:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def open_session(device: RemoteDevice, waiting: Waiting) -> BoardSession:
    """A session with a board of `device`; its end gives the board back.

    waiting  told every second why this takes long; StopWaiting, raised by it, ends the wait

    DeviceError: no tracker or no board, or boards that do not answer.
    """
    tracker = parse_address(device.tracker)
    for attempt in range(_ATTEMPTS):
        place, word = request_board(tracker, device.key, patience_s=device.patience_s, waiting=waiting)
        thread = BoardThread(f"board {place}")
        try:
            rpc = thread.call(partial(tvm.rpc.connect, place.host, place.port, word, device.session_timeout_s), _GREETING_S)
            return BoardSession(device, str(place), thread, rpc)
        except (RuntimeError, LeftBehind, SessionLost) as error:
            thread.leave()
            log.info("board %s at %s does not answer (%s)", device.key, place, error)
            if attempt + 1 == _ATTEMPTS:
                why = last_line(error) if str(error) else f"no answer within {_GREETING_S:.0f} s"
                what = f"board {device.key} at {place} is registered, and does not take a session"
                raise DeviceError(f"{what} ({why}); restart its server") from error
    raise AssertionError("the last attempt returned or raised")


def last_line(error: BaseException) -> str:
    """What an error of TVM's says, which is its last line, without the traces above it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if _UNLOADABLE in lines[-1]:
        why = lines[-1].rpartition(": ")[2][-_MOST:]
        return f"the board cannot load the library ({why}); is it of the target that was named?"
    return "it closed the connection" if "kShutdown" in lines[-1] else lines[-1][-_MOST:]
