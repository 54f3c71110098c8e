"""The name of this machine's CPU, and that nothing but targets/ knows how an architecture spells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_rsq.targets.host import host_cpu_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: a CPU\n\nprocessor\t: 1\nmodel name\t: a CPU\n", "a CPU"),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\n", "0x41 0xd0c 0x3"),
    ],
)
def test_the_name_comes_from_cpuinfo(tmp_path, text, name):
    (tmp_path / "cpuinfo").write_text(text)
    assert host_cpu_model(tmp_path / "cpuinfo") == name


def test_there_is_always_a_name(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\n")
    assert host_cpu_model(tmp_path / "cpuinfo") and host_cpu_model(tmp_path / "missing") and host_cpu_model()


def test_the_library_outside_targets_reads_no_cpuinfo():
    readers = [path for folder in ("tvm_rsq", "passes") for path in (ROOT / folder).rglob("*.py") if "cpuinfo" in path.read_text()]
    assert readers == []
