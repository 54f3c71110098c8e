"""Whole quantized networks, their kernels those of a GPU, run thread by thread: every stored tensor is the simulation's, bit for bit."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from network_elsewhere import build_on_emulated_gpu, here_with_kernels_of
from typer.testing import CliRunner

import tvm_rsq
from scripts.board_check.subject import LIGHT, Subject
from scripts.models.fetch import FetchError
from scripts.models.registry import NETWORKS, load
from tests import small_network
from tests.integer_case import check, noise, quantized
from tests.integer_networks import every_network, varied
from tvm_rsq import compiler
from tvm_rsq.cli.app import app
from tvm_rsq.compiler import compile_float, compile_quantized
from tvm_rsq.errors import ArtifactError, TargetError
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.targets.cuda import embed, nvcc
from tvm_rsq.targets.cuda.gpus import local_arch
from tvm_rsq.targets.elf import is_shared_library
from tvm_rsq.tuning.placed_codes import PlacedCodes

TARGET = "cuda -arch=sm_90"
EVERY = every_network()
# With this variable set, every network is run, which takes some twenty minutes.
ALL = bool(os.environ.get("TVM_RSQ_EVERY_NETWORK"))
# One for each kind of kernel that is no convolution.
SOME = EVERY if ALL else (
    "operator: max pool with ceil", "operator: average pool with ceil", "operator: squeeze and excite", "operator: resize nearest down",
    "operator: padding with another value", "operator: mean over height", "concat of unequal scales", "residual from a table",
    "half of a split leaves", "batch of two with a residual",
)  # fmt: skip
REAL = [*NETWORKS, *LIGHT] if ALL else ["mobilenetv2"]


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """From now on, networks are built so that a GPU's kernels can run here."""
    monkeypatch.setattr(compiler, "_build", build_on_emulated_gpu(tmp_path))
    return here_with_kernels_of(TARGET)


@pytest.mark.parametrize("name", SOME)
def test_a_network(gpu, name):
    check(quantized(*EVERY[name]), gpu)


@pytest.mark.parametrize("bits", [3, 6])
def test_weights_that_are_expanded(gpu, bits):
    config = tvm_rsq.QuantConfig(
        scheme="per_channel", weight_bits=bits, nonuniform=True, overrides={"*": "grid=codebook"}, eight_bit_share=0.0
    )
    check(quantized(varied(), [(1, 3, 12, 12)], config), gpu)


@pytest.mark.parametrize("place", ["load", "kernel"])
def test_weights_of_four_bits(gpu, place):
    config = tvm_rsq.QuantConfig(
        scheme="per_channel", weight_bits=4, nonuniform=True, overrides={"*": "grid=codebook"}, eight_bit_share=0.0
    )
    check(quantized(varied(), [(1, 3, 12, 12)], config), replace(gpu, library=PlacedCodes(gpu.library, place)))


def test_books_of_channels(gpu):
    config = tvm_rsq.QuantConfig(
        weight_bits=4, nonuniform=True, codebook_channels=4, overrides={"*": "grid=codebook"}, eight_bit_share=0.0, scheme="per_channel"
    )
    check(quantized(varied(), [(1, 3, 12, 12)], config), gpu)


def per_channel(name: str) -> QuantizedModel:
    """Without measuring what each layer costs."""
    network, config = load(name), tvm_rsq.QuantConfig(scheme="per_channel", levers="none")
    return tvm_rsq.quantize(network.model, config, example_inputs=network.example_inputs, calibration=noise(2, 3, 224, 224))


@pytest.mark.parametrize("name", REAL)
def test_a_real_network_answers_as_on_this_cpu(monkeypatch, tmp_path, name):
    try:
        found = Subject.parse(name).quantize() if ALL else per_channel(name)
    except FetchError as error:
        pytest.skip(str(error))
    image = noise(*found.model.inputs[0].shape, seed=3)
    here = found.compile("llvm").run(image)
    monkeypatch.setattr(compiler, "_build", build_on_emulated_gpu(tmp_path))
    np.testing.assert_array_equal(compile_quantized(found, here_with_kernels_of(TARGET)).run(image), here)


NEEDS_NVCC = pytest.mark.skipif(not nvcc.is_installed(), reason="needs nvcc, which no GPU is needed for")


@NEEDS_NVCC
@pytest.mark.parametrize(("target", "cpu"), [(TARGET, "x86_64"), ("jetson-orin", "aarch64")])
def test_a_library_holds_machine_code(target, cpu, tmp_path):
    module = small_network.quantized().compile(target)
    path = tmp_path / "lib.so"
    path.write_bytes(module.contents.library)
    assert is_shared_library(path, cpu) and b"fatb" in module.contents.library and b"__global__" not in module.contents.library
    module.save(tmp_path / "net.rsq")
    assert dict(tvm_rsq.artifact.load(tmp_path / "net.rsq", to_run=False).contents.target) == dict(module.contents.target)


@NEEDS_NVCC
@pytest.mark.skipif(local_arch() is not None, reason="this machine has a GPU")
def test_without_a_gpu_it_is_compiled_and_not_run(tmp_path):
    found = small_network.quantized()
    module = compile_float(found.model, TARGET)
    with pytest.raises(ArtifactError, match=r"needs sm_90 .*GPU.*, which this machine .* lacks"):
        module.run(noise(*found.model.inputs[0].shape))


def test_no_compiler_is_said_before_anything_is_built(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setattr(nvcc, "_USUAL", str(tmp_path))
    with pytest.raises(TargetError, match="takes nvcc, .* install NVIDIA's CUDA toolkit"):
        small_network.quantized().compile(TARGET)


def test_a_library_of_another_form_is_refused():
    source, code = b"\4\0\0\0\0\0\0\0cuda", b"machine code"
    assert embed.declare(b"head" + source + b"names" + code, [code]) == b"head\4\0\0\0\0\0\0\0fatbnames" + code
    for library in (b"head" + source, b"head" + code):
        with pytest.raises(TargetError, match="in an unknown form"):
            embed.declare(library, [code])


@pytest.mark.skipif(local_arch() is not None, reason="this machine has a GPU")
def test_bench_on_this_machines_gpu_is_refused_without_one():
    done = CliRunner().invoke(app, ["bench", "tests.remote.test_bench_devices:network", "--device", "cuda"])
    assert done.exit_code == 1 and "cannot time kernels for cuda -arch=sm_80 here" in done.stderr and done.stderr.count("\n") == 1
