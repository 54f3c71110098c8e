"""Cycles of blocks whose cost on a pipeline is known."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tvm_rsq.errors import TargetError
from tvm_rsq.remote.counts import CountedBlock, InstructionCounts
from tvm_rsq.remote.modelled_cycles import CycleModel, joined
from tvm_rsq.targets.aarch64.machine_code import separate_step
from tvm_rsq.targets.aarch64.pipeline_models import MODELS, pipeline_model
from tvm_rsq.targets.llvm_tools import LlvmTools, find_llvm_tools

ADD = "2000018b"  # add x0, x1, x1: of no other's result
CHAINED = "0000008b"  # add x0, x0, x0: waits for the last one
SDOT = "1b949a4e"  # sdot v27.4s, v0.16b, v26.16b
TBL = "0000014e"  # tbl v0.16b, {v0.16b}, v1.16b
BACK = "e1ffff54"  # b.ne, one instruction back
RET = "c0035fd6"
LDADD = "200020b8"  # ldadd w0, w0, [x1]: an n1 has it, LLVM 19 knows no cost of it there


def block(*words: str, executions: int = 1, offset: int = 0) -> CountedBlock:
    return CountedBlock(file="a.so", offset=offset, code=bytes.fromhex("".join(words)), executions=executions)


def counts(*blocks: CountedBlock) -> InstructionCounts:
    return InstructionCounts(kinds={"all": sum(b.instructions * b.executions for b in blocks)}, blocks=blocks)


@pytest.fixture(scope="module")
def tools() -> LlvmTools:
    try:
        return find_llvm_tools()
    except TargetError as error:
        pytest.skip(str(error))


def cycles(cpu: str, tools: LlvmTools, *blocks: CountedBlock) -> float:
    return CycleModel(pipeline_model(cpu), tools).cycles(counts(*blocks))


def test_independent_instructions_fill_the_pipeline(tools: LlvmTools):
    """An n1 has three units for adds, an a53 two: from the cores' optimisation guides. 60 adds, and what filling the pipeline costs."""
    adds = block(*[ADD] * 60, executions=1000)
    assert cycles("neoverse-n1", tools, adds) == pytest.approx(1000 * 60 / 3, rel=0.05)
    assert cycles("cortex-a53", tools, adds) == pytest.approx(1000 * 60 / 2, rel=0.05)


def test_a_chain_is_waited_for(tools: LlvmTools):
    assert cycles("neoverse-n1", tools, block(*[CHAINED] * 50)) == pytest.approx(50, rel=0.05)


def test_executions_multiply_and_blocks_add_up(tools: LlvmTools):
    model = CycleModel(pipeline_model("cortex-a76"), tools)
    a, b = block(*[ADD] * 9, RET), block(*[TBL] * 7, RET, offset=400)
    alone = model.cycles(counts(a)), model.cycles(counts(b))
    both = counts(block(*[ADD] * 9, RET, executions=3), block(*[TBL] * 7, RET, executions=5, offset=400))
    assert model.cycles(both) == pytest.approx(3 * alone[0] + 5 * alone[1])
    assert CycleModel(pipeline_model("cortex-a76"), tools).cycles(both) == model.cycles(both)


def test_a_cpu_without_the_instruction_is_refused(tools: LlvmTools):
    assert cycles("cortex-a76", tools, block(SDOT, BACK)) > 0
    with pytest.raises(TargetError, match="cortex-a53: .*sdot v27.4s.*name the CPU that it was compiled for") as caught:
        cycles("cortex-a53", tools, block(SDOT, BACK))
    assert "\n" not in str(caught.value)


def test_much_that_has_no_cost_is_refused(tools: LlvmTools):
    loop = block(*[ADD] * 60, executions=100)
    model = CycleModel(pipeline_model("neoverse-n1"), tools)
    if model.cycles(counts(loop, block(LDADD, offset=400))) > model.cycles(counts(loop)):
        pytest.skip(f"LLVM {tools.version} knows what ldadd costs")
    with pytest.raises(TargetError, match="knows no cost of 100 of 6100 instructions"):
        model.cycles(counts(loop, block(LDADD, offset=400, executions=100)))


def test_what_is_no_instruction_is_refused(tools: LlvmTools):
    with pytest.raises(TargetError, match="does not know an instruction"):
        cycles("cortex-a76", tools, block(ADD, "ffffffff"))


def test_every_cpu_has_its_model(tools: LlvmTools):
    """llvm-mca takes all the names: an unknown one would be a generic pipeline, with a warning only."""
    for described in {model.described for model in MODELS.values()}:
        assert cycles(described, tools, block(ADD, RET)) > 0
    assert pipeline_model("cortex-a76").label == "cortex-a76 (as neoverse-n1)"
    with pytest.raises(TargetError, match="no pipeline model for generic; name one of a64fx, "):
        pipeline_model("generic")


def test_a_pointer_does_not_wait_for_the_data(tools: LlvmTools):
    """ldr q4, [x1], #16 in a chain: one step of the pointer for each."""
    for cpu in ("neoverse-n1", "neoverse-n2", "cortex-a57"):
        assert cycles(cpu, tools, block(*["2404c13c"] * 50)) == pytest.approx(50, rel=0.1)


@pytest.mark.parametrize(
    ("line", "apart"),
    [
        ("ldr\tq4, [x1], #16", ("ldr\tq4, [x1]", "add x1, x1, #16")),
        ("ldp\tq4, q5, [x1, #-32]!", ("sub x1, x1, #32", "ldp\tq4, q5, [x1]")),
        ("st1\t{ v0.16b }, [sp], x2", ("st1\t{ v0.16b }, [sp]", "add sp, sp, x2")),
        ("ldr\tq4, [x1, #16]", ("ldr\tq4, [x1, #16]",)),
        ("ldr\tq4, [x1]", ("ldr\tq4, [x1]",)),
        ("mov\tv31.h[3], w0", ("mov\tv31.h[3], w0",)),
        ("mov\tv31.d[1], x0", ("mov\tv31.d[1], x0",)),
        ("sdot\tv16.4s, v4.16b, v0.4b[1]", ("sdot\tv16.4s, v4.16b, v0.4b[1]",)),
    ],
)
def test_steps_are_taken_apart(line: str, apart: tuple[str, ...]):
    assert separate_step(line) == apart


def test_what_the_emulator_cut_is_put_together():
    first, second = block(ADD, ADD, executions=7), block(TBL, BACK, executions=7, offset=8)
    assert joined([second, first]) == [block(ADD, ADD, TBL, BACK, executions=7)]
    for other in (
        block(TBL, BACK, executions=6, offset=8),  # something else jumps there
        block(TBL, BACK, executions=7, offset=12),  # not the next instruction
    ):
        assert joined([first, other]) == [first, other]
    branch = block(ADD, BACK, executions=7)
    assert joined([branch, second]) == [branch, second]


def fake_tool(folder: Path, version: str) -> Callable[[str], None]:
    def make(name: str) -> None:
        path = folder / name
        path.write_text(f"#!/bin/sh\necho 'LLVM version {version}'\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return make


def test_an_older_llvm_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match="neither is installed; run: apt install llvm-19"):
        find_llvm_tools()
    for name in ("llvm-mca", "llvm-mc"):
        fake_tool(tmp_path, "14.0.6")(name)
    with pytest.raises(TargetError, match="llvm-mca is version 14.0.6.*run: apt install llvm-19"):
        find_llvm_tools()
    for name in ("llvm-mca-20", "llvm-mc-20"):
        fake_tool(tmp_path, "20.1.0")(name)
    assert find_llvm_tools() == LlvmTools("llvm-mca-20", "llvm-mc-20", "20.1.0")
