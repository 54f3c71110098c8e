"""CPUs with SVE: kernels of fixed-width vectors mean the same on them, however long the CPU's own vectors are."""

from __future__ import annotations

import pytest
from disassembly import instructions
from network_elsewhere import build_under_qemu, here_with_kernels_of
from qemu_aarch64 import skip_without_qemu

from tests.integer_case import check, quantized
from tests.integer_networks import varied
from tvm_rsq import compiler

# qemu's max has vectors of 512 bits unless told otherwise.
CASES = [("neoverse-v1", "max"), ("neoverse-n2", "max,sve-default-vector-length=16")]


@pytest.fixture(scope="module")
def network():
    return quantized(varied(), [(1, 3, 12, 12)])


@pytest.mark.parametrize(("target", "cpu"), CASES)
def test_a_network_is_exact_whatever_the_length_of_vectors(network, target, cpu, monkeypatch, tmp_path):
    skip_without_qemu()
    monkeypatch.setattr(compiler, "_build", build_under_qemu(target, tmp_path, cpu))
    check(network, here_with_kernels_of(target))
    assert any(line.is_sve for line in instructions(tmp_path / "kernels.so")), "LLVM makes some of loops that have no vectors of ours"
