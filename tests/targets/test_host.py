from __future__ import annotations

import pytest
from tvm.target import Target, codegen

from tvm_rsq.targets import host


@pytest.fixture
def x86_with_flags(tmp_path, monkeypatch):
    """A virtual machine that shows only some flags of a Zen 4."""

    def make(flags: str):
        path = tmp_path / "cpuinfo"
        path.write_text(f"processor\t: 0\nmodel name\t: a CPU\nflags\t\t: fpu {flags}\n")
        monkeypatch.setattr(host, "host_arch", lambda: "x86_64")
        features = host.host_features.__wrapped__(path)
        monkeypatch.setattr(host, "host_features", lambda: features)
        monkeypatch.setattr(host, "host_triple", lambda: "x86_64-linux-gnu")
        monkeypatch.setattr(codegen, "llvm_get_system_cpu", lambda: "znver4")
        return features

    return make


def test_flags_are_read_in_llvm_names(x86_with_flags):
    assert x86_with_flags("pni avx2 avx512_vnni nonsense") == {"sse3", "avx2", "avx512vnni"}


def test_masked_features_are_taken_from_the_target(x86_with_flags):
    x86_with_flags("pni ssse3 sse4_1 sse4_2 popcnt avx avx2 fma")
    features = codegen.llvm_get_cpu_features(Target(host.host_target()))
    assert {"avx2", "fma"} <= features
    assert not {f for f in features if f.startswith("avx512")}


def test_this_machine_can_run_what_is_made_for_it():
    features = codegen.llvm_get_cpu_features(Target(host.host_target()))
    assert features & host.INSTRUCTION_SETS[host.host_arch()] <= host.host_features()
