"""What identifies a time, and the files that hold times."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from tvm.s_tir.meta_schedule.utils import shash2hex

from tests.tuning.fake_runner import SPACE, TableRunner, network_task, spec, workload
from tvm_rsq.errors import ConfigError
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue
from tvm_rsq.tuning import runner as runner_module
from tvm_rsq.tuning.json_lines import open_locked, read_lines, write_line
from tvm_rsq.tuning.kernel_arguments import kernel_arguments
from tvm_rsq.tuning.kernels_version import _version
from tvm_rsq.tuning.measure_kernel import TimingRecords, kernel_time_us
from tvm_rsq.tuning.runner import LocalRunner
from tvm_rsq.tuning.runner import _compile as compile_kernel
from tvm_rsq.tuning.specification import annotate, choice_of, specification
from tvm_rsq.tuning.task import TuningTask, describe, normalise, tuning_task
from tvm_rsq.tuning.work_dir import Decision, open_work_dir, read_decisions

TASK = network_task().task


def test_constants_do_not_make_another_task():
    base = replace(workload(), epilogue=Epilogue(residual=True, qmin=3, qmax=200, low=-1.0, high=1.0))
    other = replace(
        base, input_zero_point=7, epilogue=Epilogue(residual=True, qmin=9, qmax=99, zero_point=9, residual_zero_point=4, low=0, high=6)
    )
    assert normalise(base) == normalise(other) == normalise(normalise(base))
    unclipped = replace(base, epilogue=replace(base.epilogue, qmin=0, qmax=255, low=float("-inf"), high=float("inf")))
    assert normalise(unclipped) == unclipped
    assert normalise(replace(workload(), out_pitch=96, out_offset=32)) == normalise(workload())


def test_every_other_field_makes_another_task():
    changes = {
        "batch": 2, "height": 13, "width": 13, "in_channels": 32, "out_channels": 16, "kernel": (3, 3), "stride": (2, 2), "groups": 16,
        "padding": (1, 1, 1, 1), "dilation": (2, 2), "in_dtype": "float32", "accumulate16": 1, "code_bits": 4,
            "epilogue": Epilogue(bounded=True),
    }  # fmt: skip
    assert changes.keys() | {"input_zero_point", "out_pitch", "out_offset"} == {f.name for f in fields(Conv2DWorkload)}
    for name, value in changes.items():
        assert normalise(replace(workload(), **{name: value})) != normalise(workload()), name
    epilogue = {
        "out": "float32", "requantize": "shift", "per_channel": True, "residual": True, "shared_residual": True, "bounded": True,
        "short": True,
        "qmin": 1, "qmax": 254, "low": 0.0, "high": 6.0,
    }  # fmt: skip
    assert epilogue.keys() | {"zero_point", "residual_zero_point"} == {f.name for f in fields(Epilogue)}
    for name, value in epilogue.items():
        changed = replace(workload(), epilogue=Epilogue(**{name: value}))
        assert normalise(changed) != normalise(workload()), name


def test_the_specification_is_the_identity():
    again = TuningTask(**{f.name: getattr(TASK, f.name) for f in fields(TuningTask)})
    assert shash2hex(specification(TASK)) == shash2hex(specification(again))
    changes = {
        "cpu": "another", "threads": 2, "kernels": "1", "arch": "another", "features": ("sse3",), "mcpu": "another", "mattr": ("+sse3",),
        "workload": workload(13), "measure": "instructions",
    }  # fmt: skip
    assert changes.keys() == {f.name for f in fields(TuningTask)}
    for change in ({name: value} for name, value in changes.items()):
        assert shash2hex(specification(replace(TASK, **change))) != shash2hex(specification(TASK)), change
    grouped = Conv2DWorkload(batch=1, height=5, width=5, in_channels=8, out_channels=8, kernel=(3, 3), groups=8, padding=(1, 0, 1, 0))
    assert "conv2d" in specification(replace(TASK, workload=grouped)).script()


def test_the_target_is_in_the_task():
    tuned_for, with_more = parse_target("llvm -mcpu=skylake"), parse_target("llvm -mcpu=skylake -mattr=+fma,+avx2")
    assert with_more.features == tuned_for.features  # what alone told tasks apart would not
    assert tuning_task(tuned_for, workload(), 1).mcpu == "skylake" and tuning_task(tuned_for, workload(), 1).mattr == ()
    assert tuning_task(with_more, workload(), 1).mattr == ("+avx2", "+fma")


@pytest.mark.parametrize("changed", ["templates/a.py", "tuning/runner.py", "tuning/kernel_arguments.py"])
def test_another_way_of_timing_is_another_version(tmp_path, changed):
    for name in ("templates/a.py", "tuning/runner.py", "tuning/kernel_arguments.py", "tuning/search.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    before = _version(tmp_path / "templates", tmp_path / "tuning")
    (tmp_path / "tuning/search.py").write_text("the order of trials changes no time")
    assert _version(tmp_path / "templates", tmp_path / "tuning") == before
    (tmp_path / changed).write_text("changed")
    assert _version(tmp_path / "templates", tmp_path / "tuning") != before


def test_a_trace_holds_the_choice():
    for choice in SPACE[::40]:
        assert choice_of(annotate(specification(TASK), choice).trace) == choice


def test_a_shape_in_a_few_characters():
    assert describe(workload()) == "1x1 14x14 16->32"
    assert describe(replace(workload(), kernel=(3, 3), stride=(2, 2), out_channels=16, groups=16)) == "3x3/2 14x14 16->16 depthwise"


def numbers(value):
    if not isinstance(value, dict):
        raise ValueError("expected {...}")
    return value


@pytest.mark.parametrize("before", ["", "x" * 70_000])
def test_lines_survive_a_torn_one(tmp_path, before):
    path = tmp_path / "lines"
    for value in (1, before, 3):
        with open_locked(path) as file:
            write_line(file, {"a": value})
        with path.open("a") as file:
            file.write('{"a": 2' + before)
        assert read_lines(path, numbers)[-1] == {"a": value}
    assert read_lines(path, numbers) == [{"a": 1}, {"a": before}, {"a": 3}]
    path.write_text("{}\n}\n{}\n")
    with pytest.raises(ConfigError, match="lines, line 2 is }, expected JSON"):
        read_lines(path, numbers)
    path.write_text("{}\n[\"" + "x" * 200 + '"]\n')
    with pytest.raises(ConfigError, match=r"lines, line 2 is .{70,90} \.\.\., expected \{\.\.\.\}; remove that line, or the file"):
        read_lines(path, numbers)
    assert read_lines(tmp_path / "missing", numbers) == []


def test_a_decision_of_another_cpu_counts_only_for_compiling_elsewhere(tmp_path):
    other = replace(TASK, cpu="another")
    decision = Decision(choice=SPACE[3], cost=1.0, untuned_cost=2.0, measured=4)
    with open_work_dir(tmp_path, spec().tvm_target()) as folder:
        folder.decide(other, decision)
    found = read_decisions(tmp_path)
    assert found.get(other) == decision and found.get(TASK) is None
    assert found.get(TASK, elsewhere=True) == decision
    assert found.get(replace(TASK, threads=2), elsewhere=True) is None
    with pytest.raises(ConfigError, match="no tuning folder"):
        read_decisions(tmp_path / "missing")


def test_a_time_is_measured_once(tmp_path):
    runner, path = TableRunner(), tmp_path / "new" / "times.jsonl"
    here = spec()
    first = kernel_time_us(here, workload(), records=TimingRecords(path), runner=runner)
    again = kernel_time_us(here, replace(workload(), input_zero_point=9), records=TimingRecords(path), runner=runner)
    assert first == again and len(runner.asked) == 1
    kernel_time_us(here, workload(), SPACE[5], records=TimingRecords(path), runner=runner)
    kernel_time_us(here, workload(), threads=2, records=TimingRecords(path), runner=runner)
    assert len(runner.asked) == 3
    records = TimingRecords(path)
    assert records.get(tuning_task(here, workload(), 1), SPACE[5]) is not None and records.get(replace(TASK, cpu="another")) is None
    assert set(json.loads(path.read_text().splitlines()[0])) == {"task", "choice", "us"}


def test_a_kernel_is_timed_here():
    w = Conv2DWorkload(batch=1, height=4, width=4, in_channels=8, out_channels=8, kernel=(1, 1), epilogue=Epilogue(residual=True))
    assert 0.05 < kernel_time_us(parse_target("llvm"), w) < 1e5


WORKLOADS = {
    "shift": Epilogue(requantize="shift", residual=True, shared_residual=True, per_channel=True),
    "fixed_point": Epilogue(requantize="fixed_point", residual=True),
    "float32": Epilogue(out="float32"),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_arguments_fit_their_kernel_and_keep_its_promises(name):
    w = replace(workload(), in_dtype="float32" if name == "float32" else "uint8", accumulate16=0, epilogue=WORKLOADS[name])
    kernel = parse_target("llvm").library.conv2d(w)
    arguments = kernel_arguments(w, kernel)
    for tensor, param in zip(arguments, kernel.prim_func.params, strict=True):
        assert (tuple(tensor.shape), str(tensor.dtype)) == (tuple(int(n) for n in param.ty.shape), str(param.ty.dtype))


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_weights_keep_the_promise_of_sums_in_16_bits(at_once):
    w = replace(workload(), accumulate16=at_once)
    seen = []
    kernel = Kernel(
        name="k", prim_func=parse_target("llvm").library.conv2d(workload()).prim_func, pack_weight=lambda a: seen.append(a) or a
    )
    kernel_arguments(w, kernel)
    pairs = seen[0].reshape(-1, at_once, 2, 2).astype(int)  # blocks of 4 * at_once values: positions 0, 1 and 2, 3 mod 4
    assert np.maximum(pairs, 0).sum(axis=(1, 3)).max() <= 128 and np.minimum(pairs, 0).sum(axis=(1, 3)).min() >= -128


def test_kernels_are_kept_until_their_arguments_fill_the_memory(monkeypatch):
    here = parse_target("llvm")
    runner = LocalRunner(here)
    task = tuning_task(here, workload(2), 1)
    choice, *_ = here.library.conv2d_space(task.workload)
    compiled = []
    monkeypatch.setattr(runner_module, "_compile", lambda *args: compiled.append(args) or compile_kernel(*args))
    for _ in range(2):
        assert all(time > 0 for time in runner.times(task, [choice], 2)[0])
    assert len(compiled) == 1
    monkeypatch.setattr(runner_module, "_KEPT_BYTES", 1)
    runner.times(replace(task, threads=2), [choice], 1)
    runner.times(task, [choice], 1)
    assert len(compiled) == 3
