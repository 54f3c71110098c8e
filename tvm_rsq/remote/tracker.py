"""TVM's tracker, which knows the boards and hands out the free ones, in this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from tvm.rpc import base
from tvm.rpc.tracker import TrackerServerHandler

from tvm_rsq.remote.signals import STOPPING, heeded


def run_tracker(listener: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Track boards until SIGINT, SIGTERM or SIGHUP; then `listener` and all connections are closed. For a main thread.

    ready   called once: from then on those signals stop it in order
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    handler = TrackerServerHandler(listener, base.random_key("tracker"))
    for number in heeded(STOPPING):
        loop.add_signal_handler(number, handler.stop)
    ready()
    handler.run()
