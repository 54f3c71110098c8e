"""Whole quantized networks, their kernels those of a GPU, run thread by thread: every stored tensor is the simulation's, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from network_elsewhere import build_on_emulated_gpu, here_with_kernels_of

import tvm_rsq
from scripts.models.fetch import is_cached
from scripts.models.registry import load
from tests import small_network
from tests.integer_case import check, noise, quantized
from tests.integer_networks import every_network, varied
from tvm_rsq import compiler
from tvm_rsq.compiler import compile_float, compile_quantized
from tvm_rsq.errors import ArtifactError, TargetError
from tvm_rsq.targets.cuda import embed, nvcc
from tvm_rsq.targets.cuda.gpus import local_arch
from tvm_rsq.targets.elf import is_shared_library

TARGET = "cuda -arch=sm_90"
EVERY = every_network()
# One for each kind of kernel that is no convolution; all of them were run by hand.
SOME = (
    "operator: max pool with ceil", "operator: average pool with ceil", "operator: squeeze and excite", "operator: shuffle",
    "operator: resize nearest down", "operator: padding with another value", "operator: mean over height", "operator: difference",
    "concat of unequal scales", "concat with the input", "residual from a table", "half of a split leaves", "batch of two with a residual",
    "operator: clamp", "flattened into dense",
)  # fmt: skip


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """From now on, networks are built so that a GPU's kernels can run here."""
    monkeypatch.setattr(compiler, "_build", build_on_emulated_gpu(tmp_path))
    return here_with_kernels_of(TARGET)


@pytest.mark.parametrize("name", SOME)
def test_a_network(gpu, name):
    check(quantized(*EVERY[name]), gpu)


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
def test_weights_that_are_expanded(gpu, bits):
    codebook = {"nonuniform": True, "overrides": {"*": "grid=codebook"}, "eight_bit_share": 0.0} if bits < 8 else {}
    check(quantized(varied(), [(1, 3, 12, 12)], tvm_rsq.QuantConfig(scheme="per_channel", weight_bits=bits, **codebook)), gpu)


def test_books_of_channels(gpu):
    config = tvm_rsq.QuantConfig(
        weight_bits=4, nonuniform=True, codebook_channels=4, overrides={"*": "grid=codebook"}, eight_bit_share=0.0, scheme="per_channel"
    )
    check(quantized(varied(), [(1, 3, 12, 12)], config), gpu)


@pytest.mark.skipif(not is_cached("mobilenetv2"), reason="mobilenetv2 is not in the cache; run: scripts/fetch_models mobilenetv2")
def test_a_real_network_answers_as_on_this_cpu(monkeypatch, tmp_path):
    network = load("mobilenetv2")
    config = tvm_rsq.QuantConfig(scheme="per_channel", levers="none")
    found = tvm_rsq.quantize(network.model, config, example_inputs=network.example_inputs, calibration=noise(2, 3, 224, 224))
    image = noise(1, 3, 224, 224, seed=3)
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
    with pytest.raises(ArtifactError, match=r"needs sm_90, which this machine .* lacks"):
        module.run(noise(*found.model.inputs[0].shape))


def test_no_compiler_is_said_before_anything_is_built(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setattr(nvcc, "_USUAL", "/nowhere")
    with pytest.raises(TargetError, match="takes nvcc, .* install NVIDIA's CUDA toolkit"):
        small_network.quantized().compile(TARGET)


def test_a_library_of_another_form_is_refused():
    source, code = b"\4\0\0\0\0\0\0\0cuda", b"machine code"
    assert embed.declare(b"head" + source + b"names" + code, [code]) == b"head\4\0\0\0\0\0\0\0fatbnames" + code
    for library in (b"head" + source, b"head" + code):
        with pytest.raises(TargetError, match="in an unknown form"):
            embed.declare(library, [code])
