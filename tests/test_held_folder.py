"""Temporary folders: gone at the end, gone after a kill with the next one of that name, and never while somebody holds them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.held_folder import held_folder

HOLD = """
import sys, time
from pathlib import Path
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.held_folder import held_folder
parent = Path(sys.argv[1])
with held_folder(parent, "held-") as folder, atomic_write(parent / "net.rsq") as partial:
    (folder / "deep").mkdir()
    partial.write_text("half")
    print("holds", flush=True)
    time.sleep(60)
"""


def test_it_is_removed_at_the_end_with_all_it_holds(tmp_path: Path) -> None:
    with held_folder(tmp_path, "held-", ".x") as folder:
        (folder / "deep").mkdir()
        assert folder.name.startswith("held-") and folder.name.endswith(".x")
    assert not os.listdir(tmp_path)


def test_what_a_killed_process_left_goes_with_the_next_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "net.rsq").write_text("before")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "holds\n"
        with held_folder(tmp_path, "held-"), atomic_write(tmp_path / "net.rsq") as partial:  # somebody's, who still works
            partial.write_text("mine")
        assert len(os.listdir(tmp_path)) == 3 and (tmp_path / "net.rsq").read_text() == "mine"
        holder.send_signal(signal.SIGKILL)
    assert len(os.listdir(tmp_path)) == 3
    with held_folder(tmp_path, "held-") as folder:
        assert [name for name in os.listdir(tmp_path) if name.startswith("held-")] == [folder.name]
    with atomic_write(tmp_path / "net.rsq") as partial:
        partial.write_text("next")
    assert os.listdir(tmp_path) == ["net.rsq"] and (tmp_path / "net.rsq").read_text() == "next"


def test_many_at_once_never_lose_theirs(tmp_path: Path) -> None:
    def work(number: int) -> None:
        for _ in range(20):
            with held_folder(tmp_path, "held-") as folder:
                (folder / str(number)).write_text("")
                assert os.listdir(folder) == [str(number)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert not os.listdir(tmp_path)


def test_what_is_no_folder_of_that_name_stays(tmp_path: Path) -> None:
    (tmp_path / "held-file").write_text("")
    (tmp_path / "held-link").symlink_to("/tmp")
    (tmp_path / "other").mkdir()
    with held_folder(tmp_path, "held-"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["held-file", "held-link", "other"]
