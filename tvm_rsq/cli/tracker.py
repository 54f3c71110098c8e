"""`tvm-rsq tracker`: where boards register, and clients ask for one."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer
from rich.text import Text

from tvm_rsq.cli.remote_options import TRACKER_PORT, Host, OpenToNetwork
from tvm_rsq.cli.session import Session
from tvm_rsq.remote.address import LOOPBACK, bound_to, listen


def tracker(
    session: Session,
    host: Host = LOOPBACK,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="TCP port; 0: any free one.")] = TRACKER_PORT,
    open_to_network: OpenToNetwork = False,
) -> None:
    """Keep the list of boards, and hand out free ones, until Ctrl-C or SIGTERM.

    Example:  tvm-rsq tracker --port 9190
    """
    from tvm_rsq.remote.runtime_only import import_runtime

    import_runtime()
    from tvm_rsq.remote.tracker import run_tracker

    with listen(host, port, open_to_network=open_to_network) as listener:
        here = bound_to(listener)
        run_tracker(listener, partial(session.result, {"host": here.host, "port": here.port}, Text(f"listening on {here}")))
