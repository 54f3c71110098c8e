"""TVM's tracker, which knows the boards and hands out the free ones, in this process."""

from __future__ import annotations

import asyncio
import socket

from tvm.rpc import base
from tvm.rpc.tracker import TrackerServerHandler

from tvm_rsq.remote.signals import STOPPING


def run_tracker(listener: socket.socket) -> None:
    """Track boards until SIGINT, SIGTERM or SIGHUP; then `listener` and all connections are closed. For a main thread."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    handler = TrackerServerHandler(listener, base.random_key("tracker"))
    for number in STOPPING:
        loop.add_signal_handler(number, handler.stop)
    handler.run()
