"""TuneConfig: how much to tune, and where the results are kept."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tvm_rsq.config import check_seed
from tvm_rsq.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneConfig:
    """How kernels are tuned.

    trials    measurements to have on record for the network's convolutions, old ones included; 0 only reads them
    work_dir  the folder of records and decisions, made where it is missing; networks may share one
    seed      of the search's order
    threads   that the kernels will run on; None: every core this process may use, or TVM_NUM_THREADS
    """

    trials: int = 512
    work_dir: str | os.PathLike[str] = "tuning/"
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        _check("trials", self.trials, 0)
        if self.threads is not None:
            _check("threads", self.threads, 1)
        check_seed(self.seed)
        if not isinstance(self.work_dir, (str, os.PathLike)):
            raise ConfigError(f"work_dir is {self.work_dir!r}, expected the path of a folder")


def _check(name: str, value: object, least: int) -> None:
    if not (isinstance(value, int) and not isinstance(value, bool) and value >= least):
        raise ConfigError(f"{name} is {value!r}, expected a whole number of at least {least}")
