"""`tvm-rsq devices`: the boards that a tracker knows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from tvm_rsq.cli.remote_options import TRACKER_HELP
from tvm_rsq.cli.session import Session
from tvm_rsq.cli.show import table
from tvm_rsq.remote.address import parse_address


def devices(
    session: Session,
    tracker: Annotated[str, typer.Option("--tracker", metavar="HOST:PORT", help=TRACKER_HELP)],
) -> None:
    """List the boards of a tracker by key: how many there are, how many are free, and who waits.

    Example:  tvm-rsq devices --tracker 127.0.0.1:9190
    """
    address = parse_address(tracker)
    from tvm_rsq.remote.runtime_only import import_runtime

    import_runtime()
    from tvm_rsq.remote.devices import list_devices

    found = list_devices(address)
    rows = (
        (device.key, ", ".join(device.servers), *map(str, (device.total, device.free, device.busy, device.waiting))) for device in found
    )
    columns = ("key", "servers", "boards", "free", "busy", "clients waiting")
    session.result(
        {"tracker": str(address), "devices": [asdict(device) | {"total": device.total} for device in found]},
        table(columns, rows, left=2) if found else Text(f"no boards at {address}; add one: tvm-rsq serve --tracker {address} --key NAME"),
    )
