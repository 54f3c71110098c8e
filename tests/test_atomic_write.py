"""Files whole or not at all, and what is no file left in its place."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from tvm_rsq.atomic_write import atomic_write


def write(path: Path, text: str) -> None:
    with atomic_write(path) as partial:
        partial.write_text(text)


def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("old")
    link.symlink_to(real)
    write(link, "new")
    assert link.is_symlink() and real.read_text() == "new" and sorted(os.listdir(tmp_path)) == ["link.json", "real.json"]


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write(pipe, "text")
    reader.join(timeout=10)
    assert read == ["text"] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="elsewhere"), atomic_write(tmp_path / "here"):
        raise OSError(28, "No space left on device", "elsewhere")
    with pytest.raises(OSError, match="here"), atomic_write(tmp_path / "here") as partial:
        raise OSError(28, "No space left on device", str(partial))
    assert not os.listdir(tmp_path)
