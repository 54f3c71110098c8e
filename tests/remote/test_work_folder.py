"""Folders of servers: temporary ones go with their server, and those of killed ones with the next."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from tvm_rsq.remote.work_folder import remove_abandoned, work_folder


def test_a_temporary_folder_goes_with_its_server_and_a_named_one_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with work_folder(None) as temporary:
        assert temporary.is_dir() and temporary.parent == tmp_path
    assert not temporary.exists()
    with work_folder(tmp_path / "named" / "deeper") as named:
        assert named.is_dir()
    assert named.is_dir()


def test_what_killed_servers_left_is_removed_and_nothing_else(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    gone, mine = tmp_path / f"tvm-rsq-serve-{int(ended.stdout)}-abc", tmp_path / f"tvm-rsq-serve-{os.getpid()}-abc"
    other = tmp_path / "tvm-rsq-serve-notes-abc"
    for folder in (gone, mine, other):
        (folder / "session").mkdir(parents=True)
    remove_abandoned(tmp_path)
    assert not gone.exists() and mine.is_dir() and other.is_dir()
