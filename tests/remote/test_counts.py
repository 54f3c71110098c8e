"""Counts of an emulated board: what is read, and what is refused."""

from __future__ import annotations

import json

import pytest
from counting_session import CountingSession, RealBoard

from tests.remote.programs import running
from tvm_rsq.errors import DeviceError
from tvm_rsq.remote.counts import counts_instructions, measure, parse

NOP, RET = bytes.fromhex("1f2003d5"), bytes.fromhex("c0035fd6")
BLOCKS = [(64, 3, NOP * 5 + RET), (0, 1, NOP * 2)]


def document(**changes: object) -> str:
    code = (NOP * 2).hex()
    return json.dumps({"schema": 1, "kinds": {"all": 6, "load": 0}, "files": ["a.so"], "blocks": [[0, 16, 3, code]]} | changes)


def test_one_call_is_measured():
    session = CountingSession(BLOCKS)
    session.call()  # before: not counted
    found = measure(session, session.call)
    assert found.total == 3 * 6 + 2
    assert [(block.file, block.offset, block.instructions, block.executions) for block in found.blocks] == [
        ("kernels.so", 0, 2, 1),
        ("kernels.so", 64, 6, 3),
    ]
    assert measure(session, session.call) == found


def test_a_call_that_executes_nothing_is_refused():
    with pytest.raises(DeviceError, match="no instruction of an uploaded library"):
        measure(CountingSession(BLOCKS), lambda: None)


def test_a_real_board_is_refused_in_one_line():
    with pytest.raises(DeviceError, match="counts no instructions.*scripts/arm_emulator.*--measure time") as caught:
        measure(RealBoard(), lambda: None)
    assert "\n" not in str(caught.value)
    assert not counts_instructions(RealBoard())
    assert counts_instructions(CountingSession(BLOCKS))


def test_a_document_is_read():
    found = parse(document())
    assert (found.total, found.kinds["load"], found.blocks[0].code) == (6, 0, NOP * 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nothing", "JSONDecodeError"),
        ("[]", "TypeError"),
        (document(schema=2), "schema 2, expected 1"),
        (document(files=[]), "IndexError"),
        (document(blocks=[[0, 16, 3, "xyz"]]), "ValueError"),
        (document(kinds={"all": 7}), "counted 7 instructions, and 6 in blocks"),
        (document(kinds={}), "counted None"),
    ],
)
def test_what_is_no_count_is_refused(text: str, reason: str):
    with pytest.raises(DeviceError, match=reason):
        parse(text)


def test_a_server_that_is_no_emulator_is_refused(tmp_path):
    with running(tmp_path, "serve") as server:
        session = server.connect(session_timeout=60)
        with pytest.raises(DeviceError, match="counts no instructions"):
            measure(session, lambda: None)
