"""What an aarch64 machine is found to have, by the auxiliary vector, by /proc/cpuinfo, and under qemu, where that is another machine's."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest
from cpuinfo_samples import GRAVITON3_OF_AN_OLD_KERNEL, SAMPLES, X86
from qemu_aarch64 import run_program, skip_without_qemu
from tvm.target import Target, codegen

from tvm_rsq.targets import host, presets
from tvm_rsq.targets.aarch64.cpu_flags import FLAGS, hwcap_bits, hwcap_words
from tvm_rsq.targets.parse import parse_target

PROGRAM = """
#include <stdio.h>
#include <sys/auxv.h>
int main(void) { printf("%lu %lu", getauxval(AT_HWCAP), getauxval(AT_HWCAP2)); return 0; }
"""


@pytest.fixture
def features_of(tmp_path, monkeypatch):
    """features_of(text, hwcaps): of an aarch64 machine with that /proc/cpuinfo and those entries of the auxiliary vector."""

    def find(text: str, hwcaps: tuple[int, int] = (0, 0)) -> frozenset[str]:
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(host, "host_arch", lambda: "aarch64")
        monkeypatch.setattr(host, "host_triple", lambda: "aarch64-linux-gnu")
        monkeypatch.setattr(host, "hwcaps", lambda: hwcaps)
        monkeypatch.setattr(codegen, "llvm_get_system_cpu", lambda: "generic")
        return host.host_features.__wrapped__(tmp_path / "cpuinfo")

    return find


def bits(text: str) -> tuple[int, int]:
    """The auxiliary vector that goes with a /proc/cpuinfo, bit by bit."""
    words = re.search("Features\t: (.*)", text)[1].split()
    singly = [[(bit, next(iter(hwcap_words(*pair)))) for bit in range(64) if hwcap_words(*(pair := which(bit)))] for which in (
        lambda bit: (1 << bit, 0), lambda bit: (0, 1 << bit),
    )]  # fmt: skip
    return tuple(sum(1 << bit for bit, word in entry if word in words) for entry in singly)


@pytest.mark.parametrize("machine", SAMPLES)
def test_what_is_compiled_for_a_machine_runs_on_it(features_of, machine):
    found = features_of(SAMPLES[machine])
    assert parse_target(machine).features <= found


@pytest.mark.parametrize("machine", SAMPLES)
def test_both_sources_say_the_same(features_of, machine):
    text = SAMPLES[machine]
    assert features_of(X86, bits(text)) == features_of(text) == {FLAGS[w] for w in text.split("\n")[2].split() if w in FLAGS}


@pytest.mark.parametrize("machine", SAMPLES)
def test_a_target_is_made_of_what_is_there(features_of, monkeypatch, machine):
    found = features_of(SAMPLES[machine])
    monkeypatch.setattr(host, "host_features", lambda: found)
    for cpu in ("generic", str(presets.PRESETS[machine]["mcpu"])):  # LLVM may know the CPU by its number, or not
        monkeypatch.setattr(codegen, "llvm_get_system_cpu", lambda cpu=cpu: cpu)
        target = host.host_target()
        assert frozenset(codegen.llvm_get_cpu_features(Target(target))) & host.INSTRUCTION_SETS["aarch64"] == found


def test_the_names_of_machines_differ(tmp_path):
    names = set()
    for machine, text in SAMPLES.items():
        (tmp_path / machine).write_text(text)
        names.add(host.host_cpu_model(tmp_path / machine))
    assert len(names) == len(SAMPLES)


def test_what_a_kernel_does_not_tell_of_is_not_used(features_of):
    assert parse_target("neoverse-v1").features - features_of(GRAVITON3_OF_AN_OLD_KERNEL) == {"i8mm", "bf16"}


def test_the_auxiliary_vector_comes_first(features_of):
    assert features_of(SAMPLES["neoverse-v1"], bits(SAMPLES["raspberry-pi-4"])) == {"fp-armv8", "neon", "crc"}


def test_without_any_word_of_the_kernel_llvm_is_asked(features_of):
    assert features_of(X86) == features_of("") == {"fp-armv8", "neon"}


def test_the_cpuinfo_of_an_arm_machine_says_nothing_to_an_emulated_x86(tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(SAMPLES["neoverse-v1"])
    monkeypatch.setattr(host, "host_arch", lambda: "x86_64")
    monkeypatch.setattr(host, "host_triple", lambda: "x86_64-linux-gnu")
    monkeypatch.setattr(codegen, "llvm_get_system_cpu", lambda: "haswell")
    assert host.host_features.__wrapped__(tmp_path / "cpuinfo") >= {"avx2", "fma"}


def test_the_vector_is_this_process_own():
    assert (host.hwcaps()[0] > 0) == (platform.system() == "Linux")


@pytest.mark.parametrize(
    ("cpu", "there", "missing"),
    [
        ("cortex-a72", {"neon", "crc"}, {"dotprod", "fullfp16", "lse", "sve"}),
        ("cortex-a76", {"neon", "dotprod", "fullfp16", "lse"}, {"i8mm", "sve"}),
        ("max", {"dotprod", "i8mm", "bf16", "sve", "sve2"}, set()),
        ("max,sve=off", {"dotprod", "i8mm", "bf16"}, {"sve", "sve2"}),
    ],
)
def test_qemu_tells_of_the_cpu_that_it_emulates(features_of, tmp_path, cpu, there, missing):
    skip_without_qemu()
    (tmp_path / "program.c").write_text(PROGRAM)
    hwcap, hwcap2 = map(int, run_program(tmp_path / "program.c", cpu).split())
    found = features_of(X86, (hwcap, hwcap2))
    assert there <= found and not missing & found


def test_bits_are_the_kernels():
    header = Path("/usr/aarch64-linux-gnu/include/asm/hwcap.h")
    if not header.is_file():
        pytest.skip("the kernel's headers for aarch64 are not installed; run: apt install linux-libc-dev-arm64-cross")
    found = re.findall(r"#define HWCAP(2?)_(\w+)\s+\(1(?:UL)? << (\d+)\)", header.read_text())
    assert len(found) > 50
    for second, name, bit in found:
        (word,) = hwcap_words(*((0, 1 << int(bit)) if second else (1 << int(bit), 0)))
        assert word == name.lower().replace("_", "")


def test_the_bits_of_a_word_are_those_that_say_it():
    for word in FLAGS:
        assert hwcap_words(*hwcap_bits(word)) == {word}
    with pytest.raises(KeyError):
        hwcap_bits("avx2")
