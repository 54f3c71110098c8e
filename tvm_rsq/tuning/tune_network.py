"""Tuning seen from a network: tune what is missing, and the target with what was decided."""

from __future__ import annotations

from dataclasses import replace

from tvm_rsq.errors import ConfigError
from tvm_rsq.model import Model
from tvm_rsq.passes.lower_movement import Evaluate
from tvm_rsq.progress import Progress, ProgressCallback, silent
from tvm_rsq.targets.spec import TargetSpec, host_supports
from tvm_rsq.threads import thread_count
from tvm_rsq.tune_config import TuneConfig
from tvm_rsq.tuning.network_tasks import network_tasks
from tvm_rsq.tuning.runner import Runner, check_runs_here
from tvm_rsq.tuning.task import Machine, this_machine
from tvm_rsq.tuning.tune import TaskResult, tune
from tvm_rsq.tuning.tuned_library import TunedLibrary
from tvm_rsq.tuning.work_dir import check_work_dir, read_decisions


def check_tuning(config: TuneConfig, spec: TargetSpec, *, elsewhere: bool = False) -> None:
    """What can be said before a network is at hand.   elsewhere: another machine measures

    TargetError: this machine cannot tune for `spec`. ConfigError: a folder that cannot be used, or nothing to read in it.
    """
    if config.trials:
        if not elsewhere:
            check_runs_here(spec)
        check_work_dir(config.work_dir)
    else:
        read_decisions(config.work_dir)


def tune_network(
    model: Model, spec: TargetSpec, config: TuneConfig, evaluate: Evaluate, *, runner: Runner | None = None,
    machine: Machine | None = None, progress: ProgressCallback = silent,
) -> tuple[TaskResult, ...]:  # fmt: skip
    """Tune the convolutions of a network in QDQ form; see `tune`.   machine: that `runner` measures on; both None: this one"""
    machine = machine or this_machine()
    tasks = network_tasks(model, spec, config.threads or machine.threads or thread_count(), evaluate, machine)
    return tune(tasks, spec, config, runner=runner, at_once=machine.at_once, progress=progress)


def tuned_spec(
    model: Model, spec: TargetSpec, config: TuneConfig, evaluate: Evaluate, *, runner: Runner | None = None,
    machine: Machine | None = None, progress: ProgressCallback = silent,
) -> TargetSpec:  # fmt: skip
    """`spec` with the kernels that tuning chose, after tuning what is missing; trials=0 only reads what the folder holds.

    Errors as `tune`; ConfigError: trials=0, and no such folder or nothing in it for this network.
    """
    machine = machine or this_machine()
    tasks = network_tasks(model, spec, config.threads or machine.threads or thread_count(), evaluate, machine)
    if config.trials:
        tune(tasks, spec, config, runner=runner, at_once=machine.at_once, progress=progress)
    decisions = read_decisions(config.work_dir)
    elsewhere = bool(host_supports(spec)) or machine != this_machine()
    found = {task.task.workload: decisions.get(task.task, elsewhere=elsewhere) for task in tasks}
    choices = {workload: decision.choice for workload, decision in found.items() if decision}
    if tasks and not choices:
        threads = tasks[0].task.threads
        raise ConfigError(
            f"{config.work_dir} holds nothing for this network on {spec.name} with {threads} threads and these kernels; tune it first"
        )
    progress(Progress(stage="tuning", done=len(choices), total=len(found), detail=f"{len(choices)} of {len(found)} kinds of convolution"))
    return replace(spec, library=TunedLibrary(spec.library, choices))
