"""scripts/check_boards: networks are found equal where they are, and a difference is named by the tensor that has it first."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

import tvm_rsq
from scripts.arm_counts.boards import emulated_boards
from scripts.board_check import check as checking
from scripts.board_check.check import GAIN, Settings, check, inputs_of
from scripts.board_check.compare import Computed, difference
from scripts.board_check.main import parse
from scripts.board_check.row import Row, rows_of, write_rows
from scripts.board_check.show import COLUMNS, lines, page
from scripts.board_check.subject import ALL, LIGHT, WAYS, Subject
from scripts.emulator.runtime_libraries import are_cached
from scripts.models.registry import NETWORKS
from tests.integer_case import noise
from tests.remote.emulated_boards import skip_without_programs
from tests.tiny_networks import classifier
from tvm_rsq.compiler import compile_exposed, compile_quantized
from tvm_rsq.errors import ConfigError, TargetError
from tvm_rsq.progress import silent
from tvm_rsq.quantized_model import QuantizedModel

BOARD = "cortex-a76"
ROW = Row(network="n", way="int8", board=BOARD, target=BOARD, macs=5 * 10**8, inputs=2, outputs=20, tensors=3, levels=4000, saturated=0.01)
FACTS = {"command": "scripts/check_boards n", "date": "today", "source": "s", "cpu": "c", "versions": {"QEMU": "7.2"}}


class Tiny(Subject):
    """A network of the tests."""

    def quantize(self, progress: object = silent) -> QuantizedModel:
        return tvm_rsq.quantize(classifier(softmax=True), calibration=noise(4, 3, 16, 16))


TINY = Tiny(network="tiny", way="int8")


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    skip_without_programs()
    if not are_cached():
        pytest.skip("TVM's runtime for aarch64 is not in the cache; run: scripts/arm_emulator --prepare")
    with emulated_boards([BOARD]) as address:
        yield Settings(boards=[BOARD], address=address, most_gmacs=1.0, progress=silent)


def test_a_network_is_equal_on_a_board(settings):
    (row,) = check(TINY, settings)
    assert row.wrong is None
    assert (row.board, row.inputs, row.outputs, row.islands) == (BOARD, 2, 16, ("nn.softmax",))
    assert row.tensors == len(TINY.quantize().plan.tensors) and row.levels > 3 * 16 * 16 and 0 < row.saturated < 1


def test_a_difference_is_named_by_its_tensor(settings, monkeypatch):
    """Of a library whose second layer has another bias: the outputs alone are looked at first, then every tensor."""
    original, other = TINY.quantize(), TINY.quantize()
    biases = {name: value + 40 for name, value in other.model.params.items() if name.startswith("second.bias") or "bn2" in name}
    assert biases
    moved = replace(other, adjusted={**other.adjusted, **biases})

    def wrong_there(of, make):
        return lambda quantized, spec: make(quantized if spec.arch == "x86_64" else moved, spec)

    monkeypatch.setattr(checking, "compile_quantized", wrong_there(original, compile_quantized))
    monkeypatch.setattr(checking, "compile_exposed", wrong_there(original, compile_exposed))
    (row,) = check(TINY, replace(settings, most_gmacs=0.0))
    *_, first, second, _mean = original.plan.tensors
    assert first == "relu"
    assert re.match(rf"input 0: {second}: \d+ of \d+ levels differ, the first is \d+ instead of \d+$", row.wrong)
    assert row.tensors == len(original.plan.tensors)


def test_what_cannot_be_quantized_is_told_for_every_board(settings):
    class Refused(Subject):
        def quantize(self, progress: object = silent) -> QuantizedModel:
            raise TargetError("first\nno such thing")

    rows = list(check(Refused(network="n", way="int8"), replace(settings, boards=[BOARD, "max"])))
    assert [(row.board, row.wrong) for row in rows] == [(board, "TargetError: first\\nno such thing") for board in (BOARD, "max")]


def test_one_bit_is_a_difference():
    levels = np.arange(6, dtype=np.uint8)
    output = np.linspace(1, 2, 4, dtype=np.float32)
    known = Computed(outputs=(output,), stored={"a": levels, "b": levels})
    assert difference(known, known) is None
    changed = np.nextafter(output, 3, dtype=np.float32)
    assert difference(Computed(outputs=(changed,), stored=known.stored), known).startswith("output: 4 of 4 output values are wrong")
    other = Computed(outputs=(changed,), stored={"a": levels, "b": levels ^ np.uint8(1)})
    assert difference(other, known) == "b: 6 of 6 levels differ, the first is 1 instead of 0"


def test_the_last_input_leaves_the_range_that_was_calibrated():
    quantized = TINY.quantize()
    (first,), (last,) = inputs_of(quantized)
    samples = quantized.calibration.inputs[0]
    np.testing.assert_array_equal(first, samples[:1])
    np.testing.assert_array_equal(last, samples[-1:] * np.float32(GAIN))


def test_every_development_network_is_checked():
    assert len(LIGHT) == 9
    assert {subject.network for subject in ALL if subject.way == "int8"} == {*NETWORKS, *LIGHT}
    assert {subject.way for subject in ALL} >= {"4-bit", "shift", "codebook", "codebook-in-kernel"}
    assert parse([]).networks == list(ALL)


def test_unknown_words_are_refused(capsys):
    for words, named in ((["none"], "no network 'none'"), (["resnet50:9-bit"], ", ".join(WAYS)), (["--boards", "z80"], "cortex-a72")):
        with pytest.raises(SystemExit):
            parse(words)
        assert named in capsys.readouterr().err


def test_rows_are_kept_for_the_next_run(tmp_path):
    path = tmp_path / "rows.json"
    rows = [ROW, replace(ROW, board="max", wrong="output: all"), replace(ROW, way="4-bit", islands=("nn.softmax",))]
    assert rows_of(path, "s") == []
    write_rows(path, FACTS, rows)
    assert json.loads(path.read_text())["schema"] == 1
    assert rows_of(path, "s") == [rows[0], rows[2]]  # what was wrong is looked at again
    assert rows_of(path, "of other code") == []
    assert replace(ROW, tensors=None).compared_for(0.4) and not replace(ROW, tensors=None).compared_for(0.6)
    path.write_text("{}")
    with pytest.raises(ConfigError, match="holds no rows of this check"):
        rows_of(path, "s")


def test_operators_in_float_are_named_or_counted():
    rows = [replace(ROW, islands=islands) for islands in ((), ("a", "b"), ("a", "b", "c"))]
    assert [line[COLUMNS.index("in float")] for line in lines(rows)] == ["-", "a, b", "3 operators"]


def test_the_page_tells_what_is_equal():
    rows = [ROW, replace(ROW, way="4-bit", tensors=None, levels=None, saturated=None, wrong="output: 3 | 4")]
    assert [dict(zip(COLUMNS, line, strict=True))["answer"] for line in lines(rows)] == ["equal", "output: 3 | 4"]
    text = page(FACTS, rows)
    assert "1 of 2 are equal in every bit." in text and "| output: 3 \\| 4 |" in text and "| n, 4-bit |" in text
    assert "All 1 are equal in every bit." in page(FACTS, rows[:1])
