"""Counts of networks on an emulated board: repeatable, of the right instructions, and shown as what they are."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tvm import rpc

import tvm_rsq
from scripts.arm_counts.boards import emulated_boards
from scripts.arm_counts.count import check_answer
from scripts.arm_counts.kernels import by_kernel
from scripts.arm_counts.main import main, parse
from scripts.arm_counts.onnxruntime_library import VERSION, WHEEL
from scripts.arm_counts.row import Row, document
from scripts.arm_counts.run_onnxruntime import median_call, run_onnxruntime
from scripts.arm_counts.run_ours import run_ours
from scripts.arm_counts.show import COLUMNS, lines, page
from scripts.emulator.toolchain import PACKAGES, EmulatorError
from scripts.models.fetch import default_cache
from scripts.peers.build import PeerError
from tests.integer_case import noise
from tests.tiny_networks import classifier
from tvm_rsq.compiled_module import CompiledModule
from tvm_rsq.compiler import compile_quantized
from tvm_rsq.errors import TargetError
from tvm_rsq.remote.counts import CountedBlock, InstructionCounts
from tvm_rsq.remote.modelled_cycles import CycleModel
from tvm_rsq.targets.aarch64.machine_code import disassemble, words
from tvm_rsq.targets.llvm_tools import find_llvm_tools

CPU = "cortex-a76"
IMAGE = noise(1, 3, 16, 16, seed=1)
_LONG = re.compile(r"[su](mull|mlal|mlsl)2?")
_BRANCHES = {"b", "bl", "br", "blr", "ret", "cbz", "cbnz", "tbz", "tbnz"}


def skip_without_emulator() -> None:
    for program, package in PACKAGES.items():
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; run: apt install {package}")


@pytest.fixture(scope="module")
def tracker() -> Iterator[rpc.TrackerSession]:
    skip_without_emulator()
    with emulated_boards([CPU]) as found:
        yield rpc.connect_tracker(*found)


@pytest.fixture(scope="module")
def builds() -> tuple[CompiledModule, CompiledModule]:
    """A small network for the board, and for this machine."""
    quantized = tvm_rsq.quantize(classifier(), calibration=noise(8, 3, 16, 16))
    return quantized.compile(CPU), compile_quantized(quantized)


@pytest.fixture(scope="module")
def counted(tracker, builds) -> tuple[InstructionCounts, np.ndarray]:
    return run_ours(tracker.request(CPU, session_timeout=60), builds[0], IMAGE)


def test_counts_repeat_in_another_session_and_on_another_input(tracker, builds, counted):
    again, output = run_ours(tracker.request(CPU, session_timeout=60), builds[0], IMAGE)
    assert again == counted[0]
    np.testing.assert_array_equal(output, builds[1].run(IMAGE))
    other, _ = run_ours(tracker.request(CPU, session_timeout=60), builds[0], noise(1, 3, 16, 16, seed=2))
    assert other == again


def test_only_the_uploaded_library_is_counted(counted, builds):
    found = counted[0]
    assert {block.file for block in found.blocks} == {"network.so"}
    library = builds[0].contents.library
    assert all(library[block.offset :].startswith(block.code) for block in found.blocks)


def test_kinds_are_those_of_the_disassembly(counted):
    """The plugin knows encodings; LLVM, which is asked here, knows names."""
    try:
        text = disassemble((word for block in counted[0].blocks for word in words(block.code)), find_llvm_tools())
    except TargetError as error:
        pytest.skip(str(error))
    found: Counter[str] = Counter()
    for block in counted[0].blocks:
        for word in words(block.code):
            line = " ".join(text[word])
            found.update({kind: block.executions for kind in kinds_of(line)})
    expected = {kind: number for kind, number in counted[0].kinds.items() if number}
    assert {"load", "store", "branch"} < expected.keys()
    assert dict(found) == expected


def kinds_of(line: str) -> set[str]:
    """By the name of an instruction, written down apart from the plugin's encodings; for what compilers emit without SVE."""
    name, operands = line.split()[0], line.partition("\t")[2]
    vector = "." in operands
    loads, stores = name.startswith("ld"), name.startswith("st")
    if name in ("add", "sub") and "[" in line and not vector:  # the step of an access, taken apart
        loads, stores = "ld" in line, "st" in line
    of = {
        "all": True,
        "dot": name in ("sdot", "udot", "usdot", "sudot"),
        "matmul": name in ("smmla", "ummla", "usmmla"),
        "multiply_long": vector and _LONG.fullmatch(name) is not None,
        "multiply": vector and name in ("mul", "mla", "mls", "sqdmulh", "sqrdmulh"),
        "pairwise_add": re.fullmatch(r"[su](adalp|addlp)", name) is not None,
        "table": name in ("tbl", "tbx"),
        "float": name in ("fmla", "fmls", "fmul", "fmadd", "fmsub", "fnmadd", "fnmsub"),
        "load": loads,
        "store": stores,
        "stack": (loads or stores) and "[sp" in line,
        "branch": name in _BRANCHES or name.startswith("b."),
    }
    return {kind for kind, is_one in of.items() if is_one}


def test_kernels_add_up_to_the_library(counted, builds):
    found = by_kernel(counted[0], builds[0].contents.library, None)
    assert sum(kernel.instructions for kernel in found) == counted[0].total
    called = {call.symbol for call in builds[0].contents.calls}
    assert {re.sub(r"_?\d*$", "", kernel.name) for kernel in found} >= {re.sub(r"_?\d*$", "", symbol) for symbol in called}
    assert [kernel.instructions for kernel in found] == sorted((kernel.instructions for kernel in found), reverse=True)
    with pytest.raises(EmulatorError, match="finds no functions"):
        by_kernel(counted[0], builds[0].contents.library[:64] + bytes(1000), None)


def test_modelled_cycles_of_a_network_repeat(counted):
    try:
        models = [CycleModel.of(CPU) for _ in range(2)]
    except TargetError as error:
        pytest.skip(str(error))
    first, second = (model.cycles(counted[0]) for model in models)
    assert first == second
    assert counted[0].total / 8 < first < counted[0].total * 8  # an n1 starts 8 at most; nothing here takes 8 cycles on average


def convolution(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A network of one 1x1 convolution in `path`; its input and output."""
    weight, x = noise(4, 8, 1, 1), noise(1, 8, 5, 5, seed=1)
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 8, 5, 5]), ("y", [1, 4, 5, 5]))]
    graph = helper.make_graph([node], "convolution", sides[:1], sides[1:], [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return x, np.einsum("oi,nihw->nohw", weight[:, :, 0, 0], x)


def test_onnxruntime_is_counted(tmp_path: Path):
    skip_without_emulator()
    if not (default_cache() / f"aarch64-onnxruntime-{VERSION}" / WHEEL.keep[0]).is_file():
        pytest.skip("ONNX Runtime for aarch64 is not in the cache; run: scripts/count_arm cnn-cifar --builds onnxruntime")
    x, y = convolution(tmp_path / "net.onnx")
    found, output, (fewest, most) = run_onnxruntime(tmp_path / "net.onnx", CPU, x)
    np.testing.assert_allclose(output, y.ravel(), rtol=1e-5, atol=1e-5)
    assert {block.file for block in found.blocks} == {WHEEL.keep[0].rpartition("/")[2]}
    assert fewest <= found.total <= most
    assert found.kinds["float"] > 0


def test_the_wheel_is_that_of_the_constraints():
    pins = (Path(__file__).resolve().parents[2] / "constraints.txt").read_text()
    assert f"\nonnxruntime=={VERSION} " in pins


def test_the_median_call_is_a_call():
    def call(executions: int) -> InstructionCounts:
        return InstructionCounts(
            kinds={"all": executions}, blocks=(CountedBlock(file="a", offset=0, code=b"\0" * 4, executions=executions),)
        )

    assert median_call([call(7), call(9), call(3), call(5)]).total == 5


ROW = Row(network="n", cpu=CPU, build="fp32", macs=1600, kinds={"all": 4_000_000, "dot": 0, "matmul": 0}, cycles=2e6, cosine=1.0)
ROWS = [
    ROW,
    replace(ROW, build="hybrid", kinds={"all": 1_000_000, "dot": 10, "matmul": 50}, cycles=0.5e6, cosine=0.99),
    replace(ROW, build="onnxruntime", variant="int8", kinds={"all": 2_000_000, "dot": 100, "matmul": 0}, cycles=None, spread=(1, 2)),
]


def test_rows_are_compared_within_a_network_and_cpu():
    assert list(lines(ROWS)) == [
        ["n", CPU, "fp32", "4.00", "-", "2.000", "-", "0.000", "2.00", "-", "-", "-", "1.0000"],
        ["n", CPU, "hybrid", "1.00", "0.250", "0.500", "-", "1.100", "0.50", "0.250", "-", "-", "0.9900"],
        ["n", CPU, "onnxruntime (int8)", "2.00", "0.500", "-", "-", "1.000", "-", "-", "-", "-", "1.0000"],
    ]
    assert list(lines([ROWS[0], replace(ROWS[1], cpu="cortex-a72")]))[1][4] == "-"


def test_the_page_says_what_was_counted():
    text = page({"command": "scripts/count_arm n", "date": "today", "calibration": "noise", "versions": {"QEMU": "7.2"}}, ROWS)
    assert "are no latency" in text
    assert f"| {' | '.join(COLUMNS)} |" in text
    assert text.count("\n| n |") == len(ROWS)


def test_the_document_is_json():
    found = json.loads(json.dumps(document({"date": "today"}, ROWS)))
    assert (found["schema"], found["date"]) == (1, "today")
    assert [(row["build"], row["instructions"], row["modelled_cycles"]) for row in found["rows"]] == [
        ("fp32", 4_000_000, 2e6), ("hybrid", 1_000_000, 0.5e6), ("onnxruntime", 2_000_000, None)
    ]  # fmt: skip


def test_a_wrong_answer_is_not_counted():
    a = np.arange(6, dtype=np.float32)
    assert check_answer("hybrid", CPU, a, a) == pytest.approx(1)
    with pytest.raises(PeerError, match="hybrid on cortex-a76: its output's cosine to the network's is 0.36.*not counted"):
        check_answer("hybrid", CPU, a, a[::-1])
    with pytest.raises(PeerError, match="nan"):
        check_answer("hybrid", CPU, a, a * np.nan)


def test_what_is_unknown_is_refused(capsys):
    for words_ in (["none"], ["resnet50", "--cpus", "z80"], ["resnet50", "--builds", "onnx"]):
        with pytest.raises(SystemExit):
            parse(words_)
    assert "choose from cortex-a35" in capsys.readouterr().err


def test_an_older_llvm_is_refused_before_the_work(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["cnn-cifar", "--builds", "fp32"]) == 1
    assert "error: modelled cycles need llvm-mca" in capsys.readouterr().err
