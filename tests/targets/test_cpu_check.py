"""cpu_check: C++ that names what the running CPU lacks, of every architecture that is known; on this one it is compiled and run."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tvm_rsq.targets.cpu_check import cpu_check
from tvm_rsq.targets.host import host_arch, host_features

PROGRAM = '#include <cstdio>\n%s\n%s\nint main() { const char* word = Lacking(); std::puts(word ? word : "nothing"); }\n'


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_this_machine_lacks_nothing_of_its_own_and_is_told_of_others(tmp_path):
    check = cpu_check(host_arch(), host_features())
    assert host_features() and "kNeeded" in check.source
    lacking = check.source.replace(
        "kNeeded[] = {", {"x86_64": 'kNeeded[] = {"sse9", ', "aarch64": 'kNeeded[] = {{"sve9", 0, 1ul << 63}, '}[host_arch()]
    )
    for source, said in ((check.source, "nothing"), (lacking, {"x86_64": "sse9", "aarch64": "sve9"}[host_arch()])):
        text = PROGRAM % ("\n".join(f"#include <{header}>" for header in check.headers), source)
        subprocess.run(
            ["g++", "-std=c++17", "-Wall", "-Werror", "-x", "c++", "-", "-o", tmp_path / "asks"], input=text, text=True, check=True
        )
        assert subprocess.run([tmp_path / "asks"], capture_output=True, text=True, check=True).stdout.strip() == said


def test_aarch64_is_asked_in_the_auxiliary_vector_and_x86_in_its_file():
    arm, x86 = cpu_check("aarch64", ["dotprod"]), cpu_check("x86_64", ["avx2"])
    assert '{"asimddp", 0x100000, 0x0},' in arm.source and arm.headers == ("sys/auxv.h",)
    assert '"avx2",' in x86.source and "sys/auxv.h" not in x86.headers


@pytest.mark.parametrize(("arch", "features"), [("riscv64", ["v"]), ("x86_64", [])])
def test_nothing_is_asked_where_nothing_is_known(arch, features):
    assert cpu_check(arch, features).source == "const char* Lacking() { return nullptr; }"
