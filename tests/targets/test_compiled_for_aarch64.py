"""A network compiled for aarch64, however the target is said: it runs on that CPU, and holds no instruction that the CPU lacks."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from disassembly import instructions
from tvm.target import Target

import tvm_rsq
from tests import small_network
from tests.tiny_networks import classifier
from tvm_rsq.errors import TargetError
from tvm_rsq.targets.linker import find_linker
from tvm_rsq.targets.parse import parse_target

_ASSEMBLER = "aarch64-linux-gnu-as"
A72 = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72", "num-cores": 4}
FORMS = {
    "a triple": "llvm -mtriple=aarch64",
    "a preset": "raspberry-pi-4",
    "an alias": "rpi4",
    "a dict": A72,
    "JSON": json.dumps(A72),
    "a Target": Target(A72),
    "a tag": "raspberry-pi/4b-aarch64",
}


@pytest.fixture(autouse=True)
def _needs_a_linker():
    try:
        find_linker(parse_target("aarch64"))
    except TargetError as error:
        pytest.skip(str(error))


def taken_apart(target: object, folder):
    library = folder / "lib.so"
    library.write_bytes(small_network.quantized().compile(target).contents.library)
    return list(instructions(library))


def test_the_one_call_of_the_readme():
    calibration = small_network.noise(4, *small_network.SHAPE[1:])
    config = tvm_rsq.QuantConfig(scheme="per_channel", levers="none")
    module = tvm_rsq.compile(classifier(), target="llvm -mtriple=aarch64", config=config, calibration=calibration)
    assert module.target == "llvm -mtriple=aarch64" and module.contents.arch == "aarch64"


@pytest.mark.parametrize("form", FORMS)
def test_plain_armv8_has_no_newer_instruction(form, tmp_path):
    found = taken_apart(FORMS[form], tmp_path)
    newer = [i for i in found if i.is_dot_product or i.is_i8mm or i.is_half or i.is_bfloat or i.is_sve or i.is_lse]
    assert len(found) > 1000 and newer == []


def test_every_way_to_say_a_cpu_makes_the_same_library():
    targets = [FORMS[form] for form in ("a preset", "a dict", "JSON", "a Target")]
    assert len({small_network.quantized().compile(target).contents.library for target in targets}) == 1


def test_a_dot_product_board_has_nothing_newer(tmp_path):
    found = taken_apart("raspberry-pi-5", tmp_path)
    assert any(i.is_dot_product for i in found)
    assert [i for i in found if i.is_i8mm or i.is_bfloat or i.is_sve] == []


def test_the_disassembly_knows_what_it_looks_for(tmp_path):
    """Every class of instruction, assembled, is found as what it is: the checks above can fail."""
    lines = {
        "is_dot_product": ["sdot v0.4s, v1.16b, v2.16b", "udot v0.4s, v1.16b, v2.4b[1]"],
        "is_i8mm": ["smmla v0.4s, v1.16b, v2.16b", "usdot v0.4s, v1.16b, v2.16b"],
        "is_half": ["fadd v0.8h, v1.8h, v2.8h", "fmul h0, h1, h2", "scvtf v0.8h, v0.8h"],
        "is_bfloat": ["bfdot v0.4s, v1.8h, v2.8h"],
        "is_sve": ["add z0.s, z1.s, z2.s", "ptrue p0.b", "cntw x0", "rdvl x0, #1"],
        "is_lse": ["ldadd w0, w1, [x2]", "casal x0, x1, [x2]", "swpa w0, w1, [x2]"],
        "": ["fcvt s0, h0", "fcvtl v0.4s, v1.4h", "fmla v0.4s, v1.4s, v2.4s", "bfi w0, w1, #2, #3", "ldr w0, [x1]", "cnt v0.8b, v1.8b",
             "smlal v0.4s, v1.4h, v2.4h", "stp x0, x1, [sp]"],
    }  # fmt: skip
    source, library = tmp_path / "all.s", tmp_path / "all.o"
    every = [(name, line) for name, group in lines.items() for line in group]
    source.write_text(".arch armv8.6-a+sve2\n" + "".join(f"{line}\n" for _, line in every))
    if shutil.which(_ASSEMBLER) is None:
        pytest.skip(f"{_ASSEMBLER} is not installed; run: apt install binutils-aarch64-linux-gnu")
    subprocess.run([_ASSEMBLER, "-o", str(library), str(source)], check=True)
    found = list(instructions(library))
    assert len(found) == len(every)
    for (name, line), instruction in zip(every, found, strict=True):
        assert [kind for kind in lines if kind and getattr(instruction, kind)] == ([name] if name else []), line
