"""The command line of `scripts/arm_emulator`: a tracker and boards, each in a process of its own, all of which end with this one."""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from scripts.emulator.boards import CPUS, DEFAULT_KEYS, Board, Emulator, chosen_boards
from scripts.emulator.build_server import session_server
from scripts.emulator.count_plugin import count_plugin
from scripts.emulator.toolchain import EmulatorError, check_cpus, ensure_llvm, ensure_toolchain, sysroot
from tvm_rsq.errors import Error
from tvm_rsq.remote import child_process
from tvm_rsq.remote.address import LOOPBACK, Address, bound_to, listen
from tvm_rsq.remote.runtime_only import import_runtime
from tvm_rsq.remote.signals import Signals, Stopped

_READY_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    """0 stopped by SIGINT or SIGTERM, 1 failed; argparse's own 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.boards < 1:
        parser.error(f"--boards is {options.boards}, expected at least 1")
    try:
        chosen_boards(options.keys.split(","), options.boards)  # before anything is installed
        ensure_toolchain(install=not options.no_install)
        plugin = None if options.no_counts else count_plugin(options.cache)
        boards = chosen_boards(options.keys.split(","), options.boards, plugin)
        check_cpus(board.cpu for board in boards)
        emulator = Emulator(server=session_server(options.cache), sysroot=sysroot(), quiet=not options.verbose)
        if options.prepare:
            ensure_llvm(install=not options.no_install)
        else:
            _run(options.port, boards, emulator, verbose=options.verbose)
    except (EmulatorError, Error, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(port: int, boards: Sequence[Board], emulator: Emulator, *, verbose: bool) -> None:
    import_runtime()
    from tvm_rsq.remote.server import ServerConfig, serve
    from tvm_rsq.remote.tracker import run_tracker

    listeners = [listen(LOOPBACK, number, open_to_network=False) for number in (port, *[0] * len(boards))]
    tracker = bound_to(listeners[0])
    report = partial(print, file=sys.stderr, flush=True) if verbose else lambda _line: None
    children: dict[int, str] = {}
    try:
        with Signals() as signals:

            def start(name: str, own: socket.socket, action: Callable[[], None]) -> None:
                def run() -> None:
                    for listener in listeners:
                        if listener is not own:
                            listener.close()
                    action()

                children[child_process.start(run)] = name

            start("the tracker", listeners[0], partial(run_tracker, listeners[0]))
            for board, listener in zip(boards, listeners[1:], strict=True):
                launch = partial(emulator.serve_session, board)
                start(board.key, listener, partial(serve, listener, launch, ServerConfig(tracker=tracker, key=board.key), report))
            for listener in listeners:
                listener.close()
            _wait_until_ready(tracker, boards, children)
            print(f"ready: tracker {tracker}, boards {', '.join(board.key for board in boards)}", flush=True)
            while True:
                _check_alive(children)
                signals.wait({}, None)
    except Stopped:
        pass
    finally:
        for child in children:
            child_process.stop(child)


def _wait_until_ready(tracker: Address, boards: Sequence[Board], children: dict[int, str]) -> None:
    """Every board is registered.   EmulatorError: they are not, or a child has died."""
    from tvm_rsq.remote.devices import list_devices

    deadline = time.monotonic() + _READY_WITHIN_S
    while sum(device.free for device in list_devices(tracker)) < len(boards):
        _check_alive(children)
        if time.monotonic() > deadline:
            raise EmulatorError(f"the boards did not register within {_READY_WITHIN_S:g} s; is the machine overloaded?")
        time.sleep(_LOOK_EVERY_S)


def _check_alive(children: dict[int, str]) -> None:
    for child, name in children.items():
        if child_process.has_ended(child):
            raise EmulatorError(f"{name} has ended: what it printed above says why, or it was killed")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="arm_emulator",
        description="Start a TVM RPC tracker and emulated aarch64 boards on this machine's loopback, and stay until Ctrl-C or SIGTERM. "
        "Answers are those of a real board; times are not.",
    )
    parser.add_argument("--port", type=int, default=9190, help="of the tracker; 0: any free one (%(default)s)")
    parser.add_argument("--keys", default=",".join(DEFAULT_KEYS), help=f"CPUs, the boards' keys: some of {', '.join(CPUS)} (%(default)s)")
    parser.add_argument("--boards", type=int, default=1, metavar="N", help="boards under each key (%(default)s)")
    parser.add_argument("--no-counts", action="store_true", help="count no instructions, which makes boards a little faster")
    parser.add_argument("--prepare", action="store_true", help="install, fetch and compile what is missing, LLVM too, and stop")
    parser.add_argument("--no-install", action="store_true", help="do not install what is missing, QEMU or the cross compiler, by apt-get")
    parser.add_argument("--cache", type=Path, default=None, help="where the runtime is kept ($TVM_RSQ_CACHE, else ~/.cache/tvm_rsq)")
    parser.add_argument("--verbose", "-v", action="store_true", help="say when sessions end, and of what")
    return parser
