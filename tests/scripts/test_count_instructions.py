"""scripts/count_instructions: callgrind's output and assembly are read right, growth fails, and innermost loops stay in registers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from scripts.instructions import networks
from scripts.instructions.callgrind import self_cost
from scripts.instructions.cases import all_cases, loop_cases
from scripts.instructions.comparison import compare
from scripts.instructions.count import loop_rows
from scripts.instructions.inner_loops import InnerLoop, densest_loop
from scripts.instructions.main import CALLS, LOOPS, main
from scripts.instructions.mobilenetv2 import FORMS, pointwise, pointwise_cases
from scripts.instructions.row import BaselineError, Row, document, read_document
from scripts.instructions.show import comparison_lines
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import host_supports

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "instructions"
OUTPUT = """
events: Ir
summary: 1177

ob=/tmp/kernels.so
fl=???
fn=0x0000000000001120
0 100
cob=/usr/lib/libc.so.6
cfn=memset
calls=2 0
0 1000
0 20

ob=/usr/lib/libc.so.6
fn=memset
57 1000

ob=/tmp/kernels.so
fn=0x0000000000003250
0 50
fi=other.c
12 7
"""
ASSEMBLY = """
main:
	.cfi_startproc
	movq	%rsp, %rbp
.LBB0_1:
	movq	%rax, 8(%rsp)
	.p2align	4
.LBB0_2:
	vpmaddwd	(%rdi), %ymm1, %ymm2
	vpaddd	%ymm2, %ymm0, %ymm0     # 32-byte Reload
	vmovdqa	%ymm3, -64(%rbp)
	{vex}	vpdpbusd	%ymm0, %ymm1, %ymm15
	addq	$32, %rdi
	cmpq	%rbp, %rdi
	jne	.LBB0_2
	decq	%rax
	jne	.LBB0_1
.LBB0_3:
	vpmaddwd	%ymm1, %ymm1, %ymm2
	vpsrld	$1, %ymm1, %ymm1
	vpsrld	$1, %ymm1, %ymm1
	vpsrld	$1, %ymm1, %ymm1
	jne	.LBB0_3
	retq
"""
ROW = Row(target="haswell", name="a", kernel="k", instructions=1000, work=100, unit="MAC")


def test_only_the_librarys_own_instructions_count() -> None:
    assert self_cost(OUTPUT.splitlines(), "/tmp/kernels.so") == 100 + 20 + 50 + 7
    assert self_cost(OUTPUT.splitlines(), "/usr/lib/libc.so.6") == 1000


def test_output_that_counts_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="no instruction of /tmp/other.so"):
        self_cost(OUTPUT.splitlines(), "/tmp/other.so")
    with pytest.raises(ValueError, match="counted Ir Dr, expected Ir alone"):
        self_cost(OUTPUT.replace("events: Ir", "events: Ir Dr").splitlines(), "/tmp/kernels.so")


def test_the_densest_innermost_loop_counts() -> None:
    assert densest_loop(ASSEMBLY) == InnerLoop(instructions=7, multiplications=2, stack=1)
    assert densest_loop(ASSEMBLY.replace("vmovdqa	%ymm3, -64(%rbp)", "vmovdqa	%ymm3, (%rsp,%rax)")).stack == 1
    assert densest_loop(ASSEMBLY.replace("vmovdqa	%ymm3, -64(%rbp)", "vmovdqa	%ymm3, 64(%rdi)")).stack == 0
    assert densest_loop(ASSEMBLY.replace("	movq	%rsp, %rbp\n", "")).stack == 0  # rbp is no frame pointer
    assert densest_loop("main:\n.LBB0_1:\n\tdecq %rax\n\tjne .LBB0_1\n") is None


def test_growth_beyond_the_tolerance_is_told_from_what_shrank() -> None:
    def row(name: str, instructions: int, **rest) -> Row:
        return replace(ROW, name=name, instructions=instructions, **rest)

    before = [row("same", 1000), row("grown", 1000), row("shrunk", 1000), row("gone", 1000), row("spills", 1000, stack=0)]
    now = [row("same", 1029), row("grown", 1031), row("shrunk", 1800, work=200), row("new", 1), row("spills", 1000, stack=1)]
    found = compare(now, before, 0.03)
    assert [pair[0].name for pair in found.grown] == ["grown", "spills"] and [pair[0].name for pair in found.shrunk] == ["shrunk"]
    assert [row.name for row in found.new] == ["new"] and [row.name for row in found.missing] == ["gone"]
    text = "\n".join(line for _style, line in comparison_lines(found, 0.03))
    assert "haswell: grown: +3.1% (10.0000 -> 10.3100 a MAC" in text and "shrunk: -10.0%" in text and "2 grew" in text
    with pytest.raises(BaselineError, match="rows of znver4 and none that was counted"):
        compare(now, [replace(ROW, target="znver4")], 0.03)


def test_a_document_is_read_again_and_a_broken_one_named(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    path.write_text(json.dumps(document([ROW])))
    assert read_document(path)[1] == (ROW,)
    for broken in ("", "[]", '{"schema": 2}', '{"schema": 1, "tvm": "0.27", "rows": [{}]}'):
        path.write_text(broken)
        with pytest.raises(BaselineError, match="write it again with --json"):
            read_document(path)
    with pytest.raises(BaselineError, match="absent.json: No such file or directory; name a file that --json wrote"):
        read_document(tmp_path / "absent.json")


def test_what_is_missing_is_named_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def error(*arguments: str) -> str:
        assert main([*arguments]) == 1
        text = capsys.readouterr().err
        assert text.startswith("error: ") and len(text.splitlines()) == 1
        return text

    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert "apt install valgrind" in error()
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/valgrind" if name == "valgrind" else None)
    assert "apt install gcc" in error()
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert "valgrind knows no avx512bitalg, avx512bw" in error("--target", "icelake-server")
    assert "valgrind knows no avxvnni" in error("--target", "llvm -mcpu=haswell -mattr=+avxvnni")
    assert "make it first" in error("--json", str(tmp_path / "none" / "a.json"))
    assert "No such file" in error("--baseline", str(tmp_path / "none.json"))
    assert "names no kernel" in error("--loops", "--only", "nothing")
    assert "x86-64" in error("--loops", "--target", "aarch64")


def test_mobilenetv2_has_its_pointwise_layers() -> None:
    layers = [w for _part, w in pointwise()]
    assert len(layers) == 34 and sum(w.epilogue.residual for w in layers) == 10
    assert [(w.height, w.in_channels, w.out_channels) for w in (layers[0], layers[1], layers[-1])] == [
        (112, 32, 16),
        (112, 16, 96),
        (7, 320, 1280),
    ]
    assert len(list(pointwise_cases())) == 34 * len(FORMS)


class Fire(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.cat([self.a(x), self.b(x)], 1))


def test_every_kernel_call_of_a_network_is_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    network = SimpleNamespace(model=Fire().eval(), example_inputs=(torch.zeros(1, 3, 4, 4),))
    monkeypatch.setattr(networks, "load", lambda _name: network)
    found = networks.network_sums("fire", parse_target("haswell"))
    # The image is quantized, and the concatenation is none: two convolutions store into one tensor.
    assert len(found["fire"]) == 4 and len(found["fire, conv2d"]) == 3


def test_names_are_unique() -> None:
    """Baselines find rows by name."""
    names = [case.name for case in all_cases()]
    assert len(names) == len(set(names))


def test_the_committed_counts_hold_what_is_counted() -> None:
    calls, loops = (read_document(FOLDER / name)[1] for name in ("calls.json", "loops.json"))
    sums = dict.fromkeys(name for name, _case in pointwise_cases())
    assert {(row.target, row.name) for row in calls} == {
        (target, name) for target in CALLS for name in (*(c.name for c in all_cases()), *sums)
    }
    assert {(row.target, row.name) for row in loops} == {(target, case.name) for target in LOOPS for case in loop_cases()}


@pytest.mark.parametrize("target", LOOPS)
def test_innermost_loops_do_not_touch_the_stack(target: str) -> None:
    held = ("3x3 28x28 128->128 direct", "3x3 28x28 128->128 Winograd", "1x1 56x56 64->256", "1x1 1x1 1280->1000 dense")
    rows = list(loop_rows([case for case in loop_cases() if case.name in held], parse_target(target)))
    assert len(rows) == len(held)
    assert [(row.name, row.stack) for row in rows if row.stack] == []


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed; run: apt install valgrind")
def test_counts_are_the_same_every_time_and_growth_fails(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    if lacking := host_supports(parse_target("haswell")):
        pytest.skip(f"this CPU lacks {', '.join(lacking)}")
    counts, only = tmp_path / "counts.json", ["--only", "mean of*"]
    assert main([*only, "--json", str(counts)]) == 0
    assert main([*only, "--baseline", str(counts), "--tolerance", "0"]) == 0
    values = json.loads(counts.read_text())
    # 49 additions of bytes a channel; 8 lanes are the fewest and 32 the most that one instruction adds.
    assert 49 * 1280 / 32 < values["rows"][0]["instructions"] < 49 * 1280
    values["rows"][0]["instructions"] -= values["rows"][0]["instructions"] // 20
    counts.write_text(json.dumps(values))
    capsys.readouterr()
    assert main([*only, "--baseline", str(counts)]) == 1
    assert "haswell: mean of 7x7x1280: +5.3%" in capsys.readouterr().out
