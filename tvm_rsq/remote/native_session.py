"""A session of this machine's own: TVM's server loop, with uploads that stay in their folder."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import tvm_ffi
from tvm.rpc import _ffi_api
from tvm.rpc import server as tvm_server

from tvm_rsq.remote.session_folder import inside, store


class _Folder:
    """What TVM's server asks for paths."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def relpath(self, name: str) -> str:
        return str(inside(self._folder, name))


def serve_session(descriptor: int, folder: Path) -> None:
    """Serve one client on the socket `descriptor`, which is past its handshake. For a process that has nothing else to do."""
    os.closerange(3, descriptor)  # the server's sockets are not this session's
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    os.chdir(folder)
    tvm_server.logger.setLevel(logging.WARNING)
    tvm_server._server_env(None, _Folder(folder))
    tvm_ffi.register_global_func("tvm.rpc.server.upload", lambda name, data: store(folder, name, bytes(data)), override=True)
    _ffi_api.ServerLoop(descriptor)
