"""A board for tests: TVM's own RPC server on this machine, in a process of its own.

    python -m tests.remote.stock_board HOST:PORT KEY [--counts] [--largest-file BYTES]

--counts        says that it is emulated, and counts: as many instructions as the library that was loaded last has bytes
--largest-file  as on a full disk: no file grows beyond it
"""

from __future__ import annotations

import argparse
import json
import os
import resource
from pathlib import Path

import tvm_ffi
from tvm.rpc.server import PopenRPCServerState

NOP = "1f2003d5"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tracker")
    parser.add_argument("key")
    parser.add_argument("--counts", action="store_true")
    parser.add_argument("--largest-file", type=int)
    given = parser.parse_args()
    if given.counts:
        tvm_ffi.register_global_func("tvm_rsq.counts.reset", lambda: None)
        tvm_ffi.register_global_func("tvm_rsq.counts.read", _counts)
    if given.largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (given.largest_file, given.largest_file))
    host, _, port = given.tracker.rpartition(":")
    server = PopenRPCServerState("127.0.0.1", 9300, 9900, tracker_addr=(host, int(port)), key=given.key, silent=True)
    server.thread.join()


def _counts() -> str:
    """In the session's process, whose current folder is the session's."""
    newest = max(Path().glob("*.so"), key=lambda path: (path.stat().st_mtime_ns, int(path.stem.rpartition("-")[2])))
    executed = os.path.getsize(newest)
    return json.dumps({"schema": 1, "kinds": {"all": executed}, "files": [newest.name], "blocks": [[0, 0, executed, NOP]]})


if __name__ == "__main__":
    main()
