from __future__ import annotations

import dataclasses
import json

import pytest
from tvm.target import Target

from tvm_rsq.errors import TargetError
from tvm_rsq.targets import parse
from tvm_rsq.targets.cuda.gpus import local_arch
from tvm_rsq.targets.host import host_arch, host_cores, host_features
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.presets import ALIASES, PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_parses_and_is_a_tvm_target(preset):
    spec = parse_target(preset)
    assert spec.name == preset
    host = spec.tvm_target() if spec.device == "cpu" else spec.tvm_target().host
    assert str(host.attrs["mtriple"]) == spec.triple == f"{spec.arch}-linux-gnu"


def test_llvm_is_this_machine():
    spec = parse_target("llvm")
    assert spec.arch == host_arch()
    assert spec.features <= host_features()
    assert spec.num_cores == host_cores()


def test_options_of_a_string():
    spec = parse_target("llvm -mcpu=haswell -mattr=+avx512f,-movbe -mtriple=x86_64-linux-gnu -num-cores=2 -keys=cpu -device=board")
    assert {"avx2", "fma", "avx512f"} <= spec.features
    assert "movbe" not in spec.features
    assert spec.num_cores == 2
    assert spec.tvm["device"] == "board"


def test_a_cpu_alone_decides_the_architecture():
    assert parse_target("llvm -mcpu=cortex-a76").arch == "aarch64"
    assert "dotprod" in parse_target("llvm -mcpu=cortex-a76").features


@pytest.mark.parametrize("triple", ["aarch64", "arm64", "aarch64-linux-gnu"])
def test_a_triple_alone_is_its_baseline(triple):
    spec = parse_target(f"llvm -mtriple={triple}")
    assert (spec.triple, spec.form) == ("aarch64-linux-gnu", "fma")
    assert "neon" in spec.features
    assert "dotprod" not in spec.features


def test_taking_a_feature_from_this_machine():
    feature = sorted(host_features())[0]
    assert feature not in parse_target(f"llvm -mattr=-{feature}").features


def test_all_ways_of_saying_it_agree():
    as_dict = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "haswell", "num-cores": 2}
    said = [as_dict, json.dumps(as_dict), Target(as_dict), "llvm -mcpu=haswell -mtriple=x86_64 -num-cores=2"]
    specs = [parse_target(s) for s in said]
    assert all(dict(s.tvm) == dict(specs[0].tvm) and s.features == specs[0].features for s in specs)
    assert parse_target(specs[0]) is specs[0]


def test_a_target_dict_is_not_changed():
    given = {"kind": "llvm", "mcpu": "haswell"}
    parse_target(given)
    assert given == {"kind": "llvm", "mcpu": "haswell"}


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_its_preset_under_the_name_that_was_said(alias):
    assert parse_target(alias) == dataclasses.replace(parse_target(ALIASES[alias]), name=alias)


def test_native_is_this_machine():
    native, arch = parse_target("llvm -mcpu=native"), host_arch()
    assert native.tvm == parse_target("llvm").tvm == parse_target(f"llvm -mtriple={arch} -mcpu=native").tvm
    other = {"x86_64": "aarch64"}.get(arch, "x86_64")
    with pytest.raises(TargetError, match=f"-mcpu=native with -mtriple={other}-linux-gnu, but this machine is a {arch}; name the CPU"):
        parse_target(f"llvm -mtriple={other} -mcpu=native")


def test_a_target_of_this_machine_can_be_parsed_again(monkeypatch):
    """Also where the user overrules what this machine was found to lack."""
    lacks_avx = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "haswell", "mattr": ["-avx", "-avx2", "-f16c", "-fma"]}
    monkeypatch.setattr(parse, "host_target", lambda: dict(lacks_avx))
    monkeypatch.setattr(parse, "host_triple", lambda: "x86_64-linux-gnu")
    monkeypatch.setattr(parse, "host_arch", lambda: "x86_64")
    assert "avx" not in parse_target("llvm").features
    overruled = parse_target("llvm -mattr=+avx2")
    assert overruled.tvm["mattr"] == ["-f16c", "-fma", "+avx2"]
    assert parse_target(overruled.tvm).features == overruled.features >= {"avx", "avx2"}


def test_requantization_form_follows_fma():
    assert parse_target("haswell").form == "fma"
    assert parse_target("x86-64-v2").form == "f64"
    assert parse_target("llvm -mcpu=haswell -mattr=-fma").form == "f64"


@pytest.mark.parametrize(
    ("target", "arch", "cpu"),
    [
        ("cuda -arch=sm_87", "sm_87", host_arch()), ("nvidia-h200", "sm_90", host_arch()), ("nvidia/nvidia-h100", "sm_90", host_arch()),
        ("jetson-orin", "sm_87", "aarch64"), ("nvidia/jetson-agx-orin-32gb", "sm_87", "aarch64"),
        ({"kind": "cuda", "arch": "sm_75", "host": {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}}, "sm_75", "aarch64"),
    ],
)  # fmt: skip
def test_a_gpu_and_the_cpu_that_starts_it(target, arch, cpu):
    spec = parse_target(target)
    assert (spec.device, spec.tvm["arch"], spec.arch, spec.library.carrier) == ("cuda", arch, cpu, "int8")
    assert parse_target(dict(spec.tvm)).features == spec.features >= {arch}
    assert parse_target(spec.tvm_target()).tvm["arch"] == arch


def test_a_gpu_without_an_arch_is_this_machines_or_a_portable_one():
    assert parse_target("cuda").tvm["arch"] == (local_arch() or "sm_80")


@pytest.mark.parametrize("tag", ["raspberry-pi/4b-aarch64", "arm/rasp4b64"])
def test_a_tag_of_tvm(tag):
    assert parse_target(tag).tvm["mcpu"] == "cortex-a72"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("rocm", "rocm"),
        ("cuda -arch=", "got -arch=, expected one of sm_75"),
        ("cuda -arch=sm_61", "got -arch=sm_61, expected one of sm_75, sm_80"),
        ("cuda -fast=1", "unknown option -fast of cuda"),
        ({"kind": "cuda", "arch": "sm_90", "host": {"mtriple": "riscv64-linux-gnu"}}, "riscv64"),
        ("pentium9", "pentium9"),
        ("", "expected one of llvm"),
        ("llvm -mcpu=haswel", "haswell"),
        ("llvm -mcpu=haswell -mtriple=aarch64-linux-gnu", "unknown CPU -mcpu=haswell"),
        ("llvm -mattr=+avx3 -mcpu=haswell", "unknown feature -mattr=\\+avx3"),
        ("llvm -mattr=avx2 -mcpu=haswell", r"\+feature or -feature"),
        ("llvm -mcpu haswell", "-option=value"),
        ("llvm -fast=1", "unknown option -fast"),
        ("llvm -arch=sm_90", "unknown option -arch"),
        ("llvm -mtriple=riscv64-linux-gnu", "riscv64"),
        ("llvm -num-cores=0", "num-cores"),
        ("raspberry-pi-6", "expected one of llvm, raspberry-pi-5, .*`tvm-rsq targets` lists them all"),
        ("nvidia/jetson-nano", "got -arch=sm_53, expected one of sm_75"),
        ("arm/rasp3b", "32-bit ARM"),
        ("arm/mate10", "Android"),
        ("llvm -mtriple=aarch64_be-linux-gnu", "big-endian"),
        ("llvm -mtriple=armeb-linux-gnueabi", "big-endian"),
        ("llvm -mtriple=arm-linux-gnueabihf", "32-bit ARM"),
        ("llvm -mtriple=thumbv7-linux-gnueabihf", "32-bit ARM"),
        ("llvm -mtriple=i686-linux-gnu", "32-bit x86"),
        ("llvm -mtriple=arm64_32-linux-gnu", "32-bit pointers"),
        ("llvm -mtriple=arm64-apple-macos -mcpu=apple-m1", "Apple's systems; only Linux .*aarch64-linux-gnu"),
        ("llvm -mtriple=aarch64-linux-darwin", "macOS"),
        ("llvm -mtriple=x86_64-pc-windows-msvc", "Windows"),
        ("llvm -mtriple=aarch64-linux-musl", "expected aarch64-linux-gnu"),
        ("llvm -mtriple=aarch64-none-elf", "expected a Linux one"),
        ("llvm -mtriple=", "another architecture"),
        ("llvm -march=armv8-a", "expected -mtriple=aarch64$"),
        ("llvm -march=armv8.2-a+fp16+dotprod+nosve", r"expected -mtriple=aarch64 -mattr=\+v8.2a,\+fullfp16,\+dotprod,-sve$"),
        ("llvm -march=haswell", "expected -mcpu=haswell$"),
        ("llvm -mcpu=armv9-a", r"expected -mtriple=aarch64 -mattr=\+v9a$"),
        ("llvm -mcpu=neoverse-n2+nosve2", "expected -mcpu=neoverse-n2 -mattr=-sve2$"),
        ("llvm -mcpu=cortex-a77x", "unknown CPU -mcpu=cortex-a77x for x86_64-linux-gnu and aarch64-linux-gnu, .*cortex-a77"),
        ("llvm -mtriple=aarch64 -mattr=+avx2", r"unknown feature -mattr=\+avx2 for aarch64"),
        ("llvm -mtriple=aarch64 -mattr=+fp16", "expected for example fullfp16"),
        ("llvm -mtriple=aarch64 -mattr=+-sve", r"\+feature or -feature"),
        ("llvm -mtriple=aarch64 -mattr=-neon", "kernels need neon"),
        ("llvm -mtriple=aarch64 -mattr=-fp-armv8", "kernels need fp-armv8"),
        ("llvm -mtriple=aarch64 -mattr=+i8mm,-i8mm", "i8mm"),
        ("llvm -mtriple=aarch64 -mattr=+i8mm,-dotprod", "with -dotprod, on which it depends"),
        ("llvm -mtriple=aarch64 -mattr=+sve2,-sve", "with -sve, on which it depends"),
        ("llvm -mtriple=aarch64 -mattr=-sve,+sve2", r"with \+sve2, which depends on it"),
        ("llvm -mcpu=haswell -mattr=+avx2,-avx", "with -avx, on which it depends"),
        ('{"kind": "llvm"', "JSON"),
        (7, "int"),
    ],
)
def test_refused_with_one_line_that_names_it(target, said):
    with pytest.raises(TargetError, match=said) as error:
        parse_target(target)
    assert "\n" not in str(error.value)


def test_cpus_with_vnni_are_compiled_for_the_fused_word_dot_product():
    vnni = parse_target("llvm -mcpu=sapphirerapids")
    assert "+fast-dpwssd" in vnni.tvm["mattr"]
    assert parse_target(vnni.tvm).tvm == vnni.tvm  # an artifact's target is not given the hint twice
    assert "+fast-dpwssd" in parse_target("alderlake").tvm["mattr"]
    assert parse_target("llvm -mcpu=sapphirerapids -mattr=-fast-dpwssd").tvm["mattr"] == ["-fast-dpwssd"]
    assert "mattr" not in parse_target("haswell").tvm
