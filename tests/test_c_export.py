"""tvm-rsq export-c: what it writes is built by the system's compiler and answers as the artifact does, without Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
import tvm_ffi
from torch import nn

import tvm_rsq
from scripts.emulator.runtime_libraries import are_cached, runtime_libraries
from scripts.emulator.toolchain import COMPILER as CROSS_COMPILER
from scripts.emulator.toolchain import QEMU, sysroot
from tests.integer_case import noise, quantized, seeded
from tests.integer_networks import varied
from tests.remote.emulated_boards import skip_without_programs
from tvm_rsq.c_export.export import _Tensor, export_c, identifier
from tvm_rsq.compiled_module import CompiledModule
from tvm_rsq.errors import ArtifactError
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.targets.host import host_arch

STRICT = "-O1 -Wall -Wextra -Werror"
COMPILER = shutil.which("g++") and shutil.which("make")
needs_compiler = pytest.mark.skipif(not COMPILER, reason="needs g++ and make")


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 5), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        both = torch.relu(self.a(x)) + self.b(y)
        return both, both.softmax(1)


@pytest.fixture(scope="module")
def coded() -> CompiledModule:
    """Its codes become weights when it is opened."""
    bits = {"scheme": "per_channel", "weight_bits": 4, "eight_bit_share": 0.0, "nonuniform": True}
    return quantized(varied(), [(1, 3, 12, 12)], tvm_rsq.QuantConfig(**bits)).compile(codes="load")


@pytest.fixture(scope="module")
def two() -> QuantizedModel:
    """Two inputs, two outputs, the second of them in float."""
    return quantized(seeded(TwoOutputs()), [(2, 6), (2, 4)])


def built(module: CompiledModule, folder: Path, flags: str = "-O0", *variables: str) -> Path:
    module.export_c(folder)
    command = ["make", "-s", "-C", str(folder), f"PYTHON={sys.executable}", f"CXXFLAGS={flags}", *variables]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def run(folder: Path, *arguments: object, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*before, str(folder / "run"), *map(str, arguments)], cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def runner(coded: CompiledModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(coded, tmp_path_factory.mktemp("coded") / "out", STRICT)


@needs_compiler
def test_codes_become_weights_and_the_answer_is_the_same(coded, runner):
    x = noise(1, 3, 12, 12, seed=3)
    x.tofile(runner / "x.bin")
    np.save(runner / "x.npy", x)
    for given, made in (("x.bin", "y.bin"), ("x.npy", "y.npy")):
        done = run(runner, "lib.so", given, made)
        assert done.returncode == 0 and done.stdout.endswith(" ms\n"), done.stderr
    assert np.array_equal(np.fromfile(runner / "y.bin", np.float32).reshape(1, -1), coded.run(x))
    written, shape = np.load(runner / "y.npy"), coded.run(x).shape
    assert written.shape == shape and written.dtype == np.float32 and np.array_equal(written, coded.run(x))
    np.save(runner / "wanted.npy", written)
    assert (runner / "y.npy").read_bytes() == (runner / "wanted.npy").read_bytes()


def test_a_board_answers_alike_and_a_lesser_one_is_told(two, tmp_path):
    skip_without_programs()
    if not are_cached():
        pytest.skip("TVM's runtime for aarch64 is not in the cache; run: scripts/arm_emulator --prepare")
    variables = f"TVM_HOME={runtime_libraries()}", f"CXX={CROSS_COMPILER}"
    folder = built(two.compile("cortex-a76"), tmp_path / "out", "-O0 -Wall -Wextra -Werror", *variables)
    files = ("lib.so", "x0.npy", "x1.npy", "y0.npy", "y1.npy")
    inputs = [noise(2, 6, seed=1), noise(2, 4, seed=2)]
    for name, array in zip(files[1:], inputs, strict=False):
        np.save(folder / name, array)
    board = [QEMU, "-L", str(sysroot()), "-cpu"]
    done = run(folder, *files, before=[*board, "cortex-a76"])
    assert done.returncode == 0, done.stderr
    sums, softmax = two.compile().run(*inputs)
    assert np.array_equal(np.load(folder / "y0.npy"), sums)
    np.testing.assert_allclose(np.load(folder / "y1.npy"), softmax, rtol=1e-6)
    done = run(folder, *files, before=[*board, "cortex-a72"])
    assert done.returncode == 1 and "this CPU lacks asimdhp; the network is compiled for cortex-a76" in done.stderr, done.stderr


@needs_compiler
def test_several_inputs_and_outputs(two, tmp_path):
    """Of a network whose name is a word of C."""
    module = CompiledModule(replace(two.compile().contents, name="double"))
    folder = built(module, tmp_path / "out")
    assert (folder / "double.h").is_file()
    inputs = [noise(2, 6, seed=1), noise(2, 4, seed=2)]
    for i, array in enumerate(inputs):
        array.tofile(folder / f"x{i}.bin")
    done = run(folder, "lib.so", "x0.bin", "x1.bin", "y0.bin", "y1.bin")
    assert done.returncode == 0, done.stderr
    for i, wanted in enumerate(module.run(*inputs)):
        assert np.array_equal(np.fromfile(folder / f"y{i}.bin", np.float32).reshape(wanted.shape), wanted)


@needs_compiler
def test_the_header_is_c(runner):
    (runner / "user.c").write_text('#include "block.h"\nint main(void) { return block_inputs[0].bytes != BLOCK_INPUT_0_BYTES; }\n')
    command = ["cc", "-std=c99", "-pedantic", *STRICT.split(), "-fsyntax-only", "user.c"]
    done = subprocess.run(command, cwd=runner, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_compiler
def test_what_the_how_to_shows_is_c(coded, tmp_path):
    export_c(replace(coded.contents, name="mobilenetv2"), tmp_path / "out")
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "deploy-without-python.md").read_text()
    shown = page.partition("```c\n")[2].partition("```")[0]
    (tmp_path / "out" / "user.c").write_text(
        f'#include <stdio.h>\n#include "mobilenetv2.h"\nint main(void) {{ float image[432], scores[7];\n{shown}return 0; }}\n'
    )
    assert "mobilenetv2_open" in shown
    command = ["cc", "-std=c99", "-Wall", "-Werror", "-fsyntax-only", "user.c"]
    done = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names_of_tensors_are_strings_of_c_whatever_they_hold():
    assert _Tensor('a"\\b\U0001f6001', "float32", (1,)).literal == '"a\\042\\134b\\360\\237\\230\\2001"'


@needs_compiler
def test_what_is_wrong_is_one_line(runner):
    (runner / "short.bin").write_bytes(b"1234")
    np.zeros((1, 3, 12, 12), np.float32).tofile(runner / "x.bin")
    (runner / "broken.so").write_bytes((runner / "lib.so").read_bytes()[:5000])
    np.save(runner / "double.npy", np.zeros((1, 3, 12, 12)))
    (runner / "raw.npy").write_bytes(b"1234")
    np.save(runner / "nan.npy", np.full((1, 3, 12, 12), np.nan, np.float32))
    np.save(runner / "cut.npy", np.zeros((1, 3, 12, 12), np.float32))
    (runner / "cut.npy").write_bytes((runner / "cut.npy").read_bytes()[:-4])
    wanted = "{'descr':'<f4','fortran_order':False,'shape':(1,3,12,12),}"
    for arguments, message in (
        (("lib.so", "short.bin", "y.bin"), "short.bin holds 4 bytes, expected 1728"),
        (("lib.so", "double.npy", "y.bin"), f"double.npy is {wanted.replace('f4', 'f8')}, expected {wanted}"),
        (("lib.so", "raw.npy", "y.bin"), "raw.npy is no .npy file of version 1.0"),
        (("lib.so", "cut.npy", "y.bin"), "cut.npy holds 1724 bytes, expected 1728"),
        (("lib.so", "nan.npy", "y.bin"), "nan.npy holds NaN or infinity, expected finite numbers"),
        (("lib.so", "none.bin", "y.bin"), "none.bin: cannot be read"),
        (("none.so", "x.bin", "y.bin"), "./none.so cannot be read"),
        (("broken.so", "x.bin", "y.bin"), "broken.so is damaged"),
        (("lib.so", "x.bin", "no/where.bin"), "no/where.bin: cannot be written"),
    ):
        done = run(runner, *arguments)
        assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert run(runner).returncode == 2


@needs_compiler
def test_a_runtime_of_another_abi_is_told(runner):
    (runner / "other.c").write_text("void TVMFFIGetVersion(unsigned *out) { out[0] = 9; out[1] = 8; out[2] = 0; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "other.c", "-o", "other.so"], cwd=runner, check=True)
    np.zeros((1, 3, 12, 12), np.float32).tofile(runner / "x.bin")
    done = subprocess.run(
        ["./run", "lib.so", "x.bin", "y.bin"], cwd=runner, env={"LD_PRELOAD": "./other.so"}, capture_output=True, text=True
    )
    assert done.returncode == 1 and "the runtime is tvm-ffi 9.8; the network is compiled for 0." in done.stderr, done.stderr


@needs_compiler
def test_a_compiler_for_another_architecture_is_told(coded, tmp_path):
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[host_arch()]
    export_c(replace(coded.contents, arch=other), tmp_path / "out")
    done = subprocess.run(["g++", "-E", "block.cpp"], cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.returncode and f'#error "lib.so is for {other}; set CXX to a compiler for it"' in done.stderr, done.stderr


def test_the_runtime_named_is_the_one_that_the_artifact_was_compiled_with(coded, tmp_path):
    CompiledModule(replace(coded.contents, tvm_version="0.31.2", tvm_ffi_version="0.7.9.post1")).save(tmp_path / "net.rsq")
    tvm_rsq.load(tmp_path / "net.rsq", to_run=False).export_c(tmp_path / "out")
    for name in ("Makefile", "README.md"):
        text = (tmp_path / "out" / name).read_text()
        assert "0.31.2" in text and "0.7.9.post1" in text and tvm.__version__ not in text and tvm_ffi.__version__ not in text
    assert "found.major != 0 || found.minor != 7" in (tmp_path / "out" / "block.cpp").read_text()
    with pytest.raises(ArtifactError, match="compiled for tvm-ffi None, expected a version"):
        export_c(replace(coded.contents, tvm_ffi_version="None"), tmp_path / "none")


@needs_compiler
def test_a_cpu_that_lacks_something_is_told(coded, tmp_path):
    words = coded.contents.features
    folder = tmp_path / "out"
    export_c(coded.contents, folder)
    source = folder / "block.cpp"
    source.write_text(source.read_text().replace("kNeeded[] = {", 'kNeeded[] = {"unobtainium", '))
    subprocess.run(["make", "-s", "-C", str(folder), f"PYTHON={sys.executable}", "CXXFLAGS=-O0"], check=True)
    np.zeros((1, 3, 12, 12), np.float32).tofile(folder / "x.bin")
    assert words and "this CPU lacks unobtainium; the network is compiled for llvm" in run(folder, "lib.so", "x.bin", "y.bin").stderr


SPELT = {
    "MobileNetV2": "mobilenetv2", "net.qdq-1": "net_qdq_1", "1st": "net_1st", "run": "net_run", "double": "double",
    "网": "network",
}  # fmt: skip


@pytest.mark.parametrize(("name", "spelt"), SPELT.items())
def test_names_are_spelt_as_c_can(name, spelt):
    assert identifier(name) == spelt
