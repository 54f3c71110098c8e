"""Options that name boards, and the devices that they make."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tvm_rsq.errors import ConfigError
from tvm_rsq.remote.device import RemoteDevice

_PANEL = "Boards over RPC"

Tracker = Annotated[
    str | None,
    typer.Option("--tracker", metavar="HOST:PORT", rich_help_panel=_PANEL, help="Of the boards; see `tvm-rsq devices`."),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="KEY[=TARGET]", rich_help_panel=_PANEL,
        help="Boards of this key decide, in place of this machine; they are what the key's preset says, or TARGET.",
    ),
]  # fmt: skip
Devices = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="KEY[=TARGET],...", rich_help_panel=_PANEL,
        help="Measure on boards of these keys, which are what the key's preset says, or TARGET.",
    ),
]  # fmt: skip
MeasureOption = Annotated[
    Literal["auto", "time", "instructions", "modelled-cycles"],
    typer.Option(
        "--measure", rich_help_panel=_PANEL,
        help="What is measured on boards. auto: time, and modelled cycles on emulated ones, whose time means nothing.",
    ),
]  # fmt: skip
SessionTimeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS", rich_help_panel=_PANEL, help="After which a board gives up what it is at: what a kernel that hangs costs."
    ),
]

BuildsOption = Annotated[
    str, typer.Option(metavar="BUILD,...", rich_help_panel=_PANEL, help="What is compared on boards: hybrid, per-channel, FP32.")
]
PlanOption = Annotated[
    Literal["one", "each"],
    typer.Option(
        "--plan", rich_help_panel=_PANEL,
        help="one: the first device decides the hybrid plan, and all compute the same; each: every device decides its own.",
    ),
]  # fmt: skip

_BUILDS = ("hybrid", "per-channel", "FP32")


def read_devices(
    text: str | None, tracker: str | None, measure: str, session_timeout_s: float, threads: int | None = None
) -> tuple[RemoteDevice, ...]:
    """The devices of --device; none where there is no such option.   BadParameter: one that makes no sense, or options that need another"""
    if text is None:
        if tracker is not None or measure != "auto":
            raise typer.BadParameter("--tracker and --measure are about boards; name them with --device KEY")
        return ()
    if tracker is None:
        raise typer.BadParameter(f"--device {text} needs the tracker that knows it: --tracker HOST:PORT")
    found = []
    try:
        for part in _parts(text):
            key, equals, target = part.partition("=")
            found.append(
                RemoteDevice(
                    tracker=tracker, key=key.strip(), target=target.strip() if equals else None, measure=measure,  # type: ignore[arg-type]
                    threads=threads, session_timeout_s=session_timeout_s,
                )  # fmt: skip
            )
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    keys = [device.key for device in found]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise typer.BadParameter(f"--device names {', '.join(twice)} more than once; boards of one key are used together anyway")
    return tuple(found)


def read_device(text: str | None, tracker: str | None, measure: str, session_timeout_s: float) -> RemoteDevice | None:
    """The one device of --device.   BadParameter: as `read_devices`, or several"""
    found = read_devices(text, tracker, measure, session_timeout_s)
    if len(found) > 1:
        raise typer.BadParameter(f"--device names {len(found)} keys, expected one: a library is for one kind of board")
    return found[0] if found else None


def build_names(text: str) -> tuple[str, ...]:
    """Of --builds.   BadParameter: another word"""
    known = {name.lower(): name for name in _BUILDS}
    words = [word.strip().lower() for word in text.split(",")]
    if wrong := [word for word in words if word not in known]:
        raise typer.BadParameter(f"--builds {wrong[0]!r}, expected some of {','.join(_BUILDS)}")
    return tuple(dict.fromkeys(known[word] for word in words))


def refuse_local(target: str | None, fp32: str | None, layers: bool | None) -> None:
    """BadParameter: options of a benchmark on this machine, with --device."""
    given = {"--target": target is not None, "--fp32": fp32 is not None, "--layers": layers is not None}
    if names := ", ".join(name for name, is_given in given.items() if is_given):
        raise typer.BadParameter(f"{names} is of benchmarks on this machine; with --device say KEY=TARGET, and --builds hybrid,FP32")


def _parts(text: str) -> list[str]:
    """Split at the commas that part keys: those of a target, as in a53=llvm -mattr=+dotprod,+fp16, are followed by an option's value."""
    parts: list[str] = []
    for piece in text.split(","):
        if parts and piece.strip()[:1] in ("+", "-"):
            parts[-1] += f",{piece}"
        else:
            parts.append(piece)
    return parts
