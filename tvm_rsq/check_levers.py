"""Levers that the user names are not left out silently: what cannot be had is refused. "auto" takes whatever there is."""

from __future__ import annotations

import logging

from tvm_rsq.candidates import usable_levers
from tvm_rsq.config import LEVERS, QuantConfig
from tvm_rsq.errors import ConfigError
from tvm_rsq.planner import uses_levers
from tvm_rsq.targets.spec import TargetSpec, host_supports

log = logging.getLogger(__name__)

_UNTIMED = {"per_tensor"}  # decided by divergence alone where nothing can be timed


def check_levers(config: QuantConfig, spec: TargetSpec | None, *, elsewhere: bool = False) -> None:
    """Only a warning where no target is given (`spec` None): such a plan is for any target, and decides granularity alone.

    elsewhere  another machine times kernels

    ConfigError: levers named in `config` that the kernels of `spec` do not have, or whose use cannot be timed here.
    """
    if isinstance(config.levers, str) or not uses_levers(config):
        return
    if spec is None:
        if left := _text(set(config.levers) - _UNTIMED):
            log.warning("levers %s: no target is given whose times could decide on them, so they are not used; give one", left)
        return
    offered = usable_levers("auto", spec.library.levers)
    if missing := _text(set(config.levers) - offered):
        todo = "name some of these, or let levers be 'auto'"
        raise ConfigError(f"levers {missing}: the kernels of {spec.name} have no use for it; they offer {_text(offered)}; {todo}")
    lacking, untimed = [] if elsewhere else host_supports(spec), _text(set(config.levers) - _UNTIMED)
    if lacking and untimed:
        why = f"kernels of {spec.name} have to be timed for it, and this machine lacks {', '.join(lacking[:4])}"
        todo = "quantize on one that has it, give a device that is one, or let levers be 'auto' (here granularity alone)"
        raise ConfigError(f"levers {untimed}: {why}; {todo}")


def _text(levers: set[str] | frozenset[str]) -> str:
    return ", ".join(lever for lever in LEVERS if lever in levers)
