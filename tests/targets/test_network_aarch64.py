"""Whole quantized networks with codebooks, their kernels those of aarch64: every stored tensor is the simulation's, bit for bit."""

from __future__ import annotations

from functools import cache

import pytest
from emulated_x86 import spec_that_runs_here
from network_elsewhere import build_emulated, build_under_qemu, here_with_kernels_of
from qemu_aarch64 import lacking_for_qemu
from torch import nn

import tvm_rsq
from tests.integer_case import check, quantized, seeded
from tests.integer_networks import varied
from tvm_rsq import compiler, pipeline
from tvm_rsq.compiler import evaluate_elementwise
from tvm_rsq.passes.lower_islands import EXPAND
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.targets.parse import parse_target

TARGETS = ["llvm -mtriple=aarch64", "cortex-a76"]
NETWORKS = {
    "weights that are expanded": (varied, (1, 3, 12, 12)),
    "weights that are looked up": (lambda: seeded(nn.Sequential(nn.Linear(1100, 1000), nn.ReLU(), nn.Linear(1000, 21))), (1, 1100)),
}
BITS = [4, 6]  # as many entries as one register holds, and as four


@cache
def with_codebooks(network: str, bits: int) -> QuantizedModel:
    make, shape = NETWORKS[network]
    every = {"*": "grid=codebook"}
    config = tvm_rsq.QuantConfig(scheme="per_channel", weight_bits=bits, nonuniform=True, eight_bit_share=0.0, overrides=every)
    return quantized(make(), [shape], config)


@pytest.fixture
def kernels_run(monkeypatch, tmp_path):
    """kernels_run(target): from now on networks are built so that their kernels for `target` can run here, by qemu if it is there."""

    def prepare(target: str) -> None:
        build = build_under_qemu(target, tmp_path)
        if lacking_for_qemu():
            spec_that_runs_here(target)
            build = build_emulated
        monkeypatch.setattr(compiler, "_build", build)

    return prepare


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_network(kernels_run, network, target, bits):
    kernels_run(target)
    check(with_codebooks(network, bits), here_with_kernels_of(target))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bits", BITS)
def test_the_networks_are_what_they_are_called(bits, target):
    expanded, looked_up = (with_codebooks(network, bits) for network in NETWORKS)
    assert all(layer.codebook for found in (expanded, looked_up) for layer in found.plan.layers)
    library = parse_target(target).library
    modules = [pipeline.lower(found.annotated, library, evaluate_elementwise)[0] for found in (expanded, looked_up)]
    names = [{var.name_hint for var in module.get_global_vars()} for module in modules]
    assert EXPAND in names[0] and not any(name.endswith(f"_codes{bits}") and name.startswith("dense") for name in names[0])
    assert sum(name.startswith("dense") and name.endswith(f"_codes{bits}") for name in names[1]) == 1
