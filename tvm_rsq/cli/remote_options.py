"""Options that the commands of remote execution share."""

from __future__ import annotations

from typing import Annotated

import typer

from tvm_rsq.remote.address import LOOPBACK

TRACKER_PORT = 9190
Host = Annotated[str, typer.Option("--host", metavar="HOST", help="Address of this machine to listen on; the default, only from itself.")]
OpenToNetwork = Annotated[
    bool, typer.Option("--open-to-network", help="Allow a --host that others reach. Anyone who does can run code on this machine.")
]
TRACKER_HELP = f"A tracker's address, such as {LOOPBACK}:{TRACKER_PORT}."
