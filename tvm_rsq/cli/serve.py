"""`tvm-rsq serve`: this machine as a board, for clients of TVM's RPC."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tvm_rsq.cli.remote_options import TRACKER_HELP, Host, OpenToNetwork
from tvm_rsq.cli.session import Session
from tvm_rsq.remote.address import LOOPBACK, bound_to, listen, parse_address


def serve(
    session: Session,
    host: Host = LOOPBACK,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="TCP port; 0: any free one.")] = 9090,
    tracker: Annotated[str | None, typer.Option("--tracker", metavar="HOST:PORT", help=f"{TRACKER_HELP} Needs --key.")] = None,
    key: Annotated[str, typer.Option("--key", metavar="NAME", help="What clients ask for, such as cortex-a76.")] = "",
    work_dir: Annotated[
        Path | None, typer.Option("--work-dir", metavar="DIR", help="Where sessions keep their uploads. Default: a temporary folder.")
    ] = None,
    session_timeout: Annotated[
        float | None, typer.Option("--session-timeout", metavar="S", help="Longest session in seconds. Default: as the client asks.")
    ] = None,
    open_to_network: OpenToNetwork = False,
) -> None:
    """Run libraries for clients until Ctrl-C or SIGTERM: each session in a process of its own, one at a time.

    Clients upload code and this machine runs it, as the user who started this: there is no password and no encryption. Let only those
    reach the port whom you would let log in.

    Example:  tvm-rsq serve --tracker 127.0.0.1:9190 --key cortex-a76
    """
    at = None if tracker is None else parse_address(tracker)
    from tvm_rsq.remote.runtime_only import import_runtime

    import_runtime()
    from tvm_rsq.remote.native_session import serve_session
    from tvm_rsq.remote.server import ServerConfig, check_reachable
    from tvm_rsq.remote.server import serve as serve_clients
    from tvm_rsq.remote.work_folder import make_work_dir

    config = ServerConfig(tracker=at, key=key, work_dir=work_dir, limit_s=session_timeout)
    check_reachable(host, at)
    make_work_dir(work_dir)
    with listen(host, port, open_to_network=open_to_network) as listener:
        here = bound_to(listener)
        record = {"host": here.host, "port": here.port, "key": key or None, "tracker": tracker}
        shown = Text(f"listening on {here}{f', key {key}' if key else ''}")
        serve_clients(listener, serve_session, config, session.note, partial(session.result, record, shown))
