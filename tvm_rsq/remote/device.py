"""RemoteDevice: the boards that a network is compiled for, timed and tuned on, by the key that they have at a tracker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from tvm_rsq.errors import ConfigError
from tvm_rsq.remote.address import parse_address

if TYPE_CHECKING:
    from tvm_rsq.targets.spec import TargetSpec

Measure = Literal["auto", "time", "instructions", "modelled-cycles"]
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteDevice:
    """Boards of one kind, which TVM RPC servers offer at a tracker under one key.

    tracker            "HOST:PORT"
    key                that the boards are registered under
    target             what they are, as in tvm_rsq.compile; None: the preset of the key's name
    measure            what decides there: "time"; or "instructions" or "modelled-cycles", on emulated boards, whose time means nothing;
                       "auto": time, and on an emulated board modelled cycles, or instructions where nothing models its CPU
    threads            that the boards run a network on; None: the target's cores. Counts are those of one thread
    session_timeout_s  after which a board gives up what it is at: a kernel that hangs costs so long
    patience_s         how long to wait for a tracker that is restarted, or a board that left, to come back
    """

    tracker: str
    key: str
    target: Any = None
    measure: Measure = "auto"
    threads: int | None = None
    session_timeout_s: float = 300.0
    patience_s: float = field(default_factory=lambda: PATIENCE_S)

    def __post_init__(self) -> None:
        if self.measure not in get_args(Measure):
            raise ConfigError(f"measure is {self.measure!r}, expected one of {', '.join(get_args(Measure))}")
        if not self.key or any(c.isspace() or c in ",=:" for c in self.key):
            raise ConfigError(f"device key is {self.key!r}, expected a word without , = and : such as cortex-a76")
        parse_address(self.tracker)
        for name in ("session_timeout_s", "patience_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected seconds above 0")
        if self.threads is not None and not self.threads >= 1:
            raise ConfigError(f"threads is {self.threads}, expected at least 1")

    def spec(self) -> TargetSpec:
        """What the boards are.   ConfigError: no target is given, and the key is no preset's name. TargetError: an unknown target."""
        from tvm_rsq.targets.parse import parse_target
        from tvm_rsq.targets.presets import find_preset

        if self.target is None and find_preset(self.key) is None:
            raise ConfigError(
                f"device {self.key}: no target has that name; say what the boards are, as in {self.key}=cortex-a76 (see `tvm-rsq targets`)"
            )
        return parse_target(self.key if self.target is None else self.target)
