"""The counting plugin, on code whose instructions are known."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.emulator.count_plugin import QEMU, CountPlugin, check_counting, count_plugin
from tvm_rsq.errors import TargetError
from tvm_rsq.remote.counts import InstructionCounts, parse

_COMPILER = "aarch64-linux-gnu-gcc"
_HERE = Path(__file__).parent
# Of one turn of known_loop.s.
_TURN = {
    "all": 12, "dot": 2, "matmul": 0, "multiply_long": 2, "multiply": 1, "pairwise_add": 1, "table": 1, "float": 1,
    "load": 1, "store": 1, "stack": 1, "branch": 1,
}  # fmt: skip


class Counted:
    """known(n) of known_loop.s under the emulator."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._runner, self._library = folder, folder / "runner", folder / "libloop.so"
        self.plugin = count_plugin(folder / "cache")
        subprocess.run([_COMPILER, "-O1", "-o", self._runner, _HERE / "counted_loop.c", "-ldl"], check=True)
        subprocess.run([_COMPILER, "-shared", "-nostdlib", "-o", self._library, _HERE / "known_loop.s"], check=True)
        libc = subprocess.run([_COMPILER, "-print-file-name=libc.so.6"], check=True, capture_output=True, text=True).stdout.strip()
        self._root = Path(libc).resolve().parents[1]

    def calls(self, *turns: int, match: str = "libloop.so") -> list[InstructionCounts]:
        out = self._folder / "counts.json"
        options = [*self.plugin.options([match], out), "-cpu", "cortex-a76", "-L", str(self._root)]
        done = subprocess.run(
            [QEMU, *options, str(self._runner), str(self._library), *map(str, turns)],
            capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **self.plugin.environment(out)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [parse(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Counted:
    try:
        check_counting()
    except TargetError as error:
        pytest.skip(str(error))
    if shutil.which(_COMPILER) is None:
        pytest.skip(f"{_COMPILER} is not installed; run: apt install g++-aarch64-linux-gnu")
    return Counted(tmp_path_factory.mktemp("counted"))


def test_every_instruction_of_a_known_loop_is_counted(counted: Counted):
    """5 instructions before the loop and 3 behind it, a branch in both; with no turn the last 2 of each are left."""
    found = counted.calls(1000, 0)
    turns = {kind: 1000 * number for kind, number in _TURN.items()}
    assert dict(found[0].kinds) == turns | {"all": 12000 + 8, "branch": 1000 + 2}
    assert dict(found[1].kinds) == dict.fromkeys(_TURN, 0) | {"all": 4, "branch": 2}


def test_blocks_lie_in_the_file_and_add_up(counted: Counted):
    (found,) = counted.calls(7)
    library = (counted._library).read_bytes()
    assert {block.file for block in found.blocks} == {"libloop.so"}
    assert all(library[block.offset :].startswith(block.code) for block in found.blocks)
    # The first turn is entered from above: one block with what is before it.
    assert [(block.instructions, block.executions) for block in found.blocks] == [(2, 1), (15, 1), (12, 6), (3, 1)]


def test_counts_repeat_in_a_process_and_between_processes(counted: Counted):
    first, second = counted.calls(123, 123)
    assert first == second
    assert counted.calls(123) == [first]


def test_other_files_are_not_counted(counted: Counted):
    (found,) = counted.calls(5, match="no such file")
    assert (found.total, found.blocks) == (0, ())


def test_the_plugin_is_built_once(counted: Counted):
    again = count_plugin(counted.plugin.library.parent)
    assert again == counted.plugin


def test_a_comma_in_a_path_is_refused():
    with pytest.raises(TargetError, match="without a comma"):
        CountPlugin(Path("/a,b.so")).options(["x"], Path("/out"))


def test_what_the_plugin_cannot_use_is_refused(counted: Counted):
    for options in ("match=x", "out=/x", "match=x,out=/x,more=1"):
        command = [QEMU, "-plugin", f"{counted.plugin.library},{options}", "/none"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "the counting plugin" in done.stderr


def test_qemu_without_plugins_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match="is not installed; run: apt install qemu-user"):
        check_counting()
    qemu = tmp_path / QEMU
    qemu.write_text("#!/bin/sh\necho 'usage: -cpu'\n")
    qemu.chmod(0o755)
    with pytest.raises(TargetError, match="takes no plugins.*not qemu-user-static"):
        check_counting()
