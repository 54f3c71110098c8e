"""Levers that are named and cannot be had are refused at the front door; "auto" takes what there is."""

from __future__ import annotations

import logging

import pytest
from typer.testing import CliRunner

import tvm_rsq
from tests import small_network
from tests.tiny_networks import classifier
from tvm_rsq import ConfigError, QuantConfig
from tvm_rsq.cli.app import app

NETWORK, DATA = classifier(softmax=True), small_network.image()
VNNI, BASELINE, CROSS = "x86-64-vnni", "llvm -mtriple=x86_64-linux-gnu -mcpu=x86-64", "llvm -mtriple=aarch64"


@pytest.fixture
def nothing_is_read(monkeypatch):
    monkeypatch.setattr("tvm_rsq.api._load", lambda *_: pytest.fail("the network was read first"))


@pytest.mark.parametrize("target", [VNNI, BASELINE, "cortex-a76"])
@pytest.mark.parametrize("through", [tvm_rsq.quantize, tvm_rsq.compile])
def test_a_lever_that_the_kernels_do_not_have_is_refused(target, through, nothing_is_read, monkeypatch):
    monkeypatch.setattr("tvm_rsq.api.find_linker", lambda spec: None)
    with pytest.raises(ConfigError) as found:
        through(NETWORK, target=target, config=QuantConfig(levers=("shift", "accumulate16")), calibration=DATA)
    offered = "offer per_tensor, shift, shared_residual"
    assert str(found.value).startswith("levers accumulate16:") and target in str(found.value) and offered in str(found.value)
    assert "'auto'" in str(found.value) and "\n" not in str(found.value)


def test_the_command_line_refuses_in_one_line(tmp_path):
    for command in (["quantize"], ["compile", "-o", str(tmp_path / "net.rsq")]):
        model = "tests.tuning.small_module:network"
        done = CliRunner().invoke(app, [*command, model, "--target", BASELINE, "--levers", "accumulate16"], catch_exceptions=False)
        assert done.exit_code == 1 and done.stderr.startswith("error: levers accumulate16:") and done.stderr.count("\n") == 1


def test_named_levers_are_not_left_out_because_a_target_cannot_be_timed_here(nothing_is_read):
    with pytest.raises(ConfigError, match=r"levers shift: .* llvm -mtriple=aarch64 .* this machine lacks aarch64 CPU; .*'auto'"):
        tvm_rsq.quantize(NETWORK, QuantConfig(levers=("per_tensor", "shift")), target=CROSS, calibration=DATA)


def test_named_levers_without_a_target_are_not_left_out_silently(caplog):
    with caplog.at_level(logging.WARNING):
        tvm_rsq.quantize(NETWORK, QuantConfig(levers=("per_tensor",)), calibration=DATA)
        assert caplog.text == ""
        tvm_rsq.quantize(NETWORK, QuantConfig(levers=("shift", "per_tensor")), calibration=DATA)
    assert "levers shift: no target is given" in caplog.text


def test_auto_none_and_granularity_alone_are_always_possible(caplog):
    for levers in ("auto", "none", ("per_tensor",)):
        tvm_rsq.quantize(NETWORK, QuantConfig(levers=levers), target=CROSS, calibration=DATA)
    tvm_rsq.quantize(NETWORK, QuantConfig(scheme="per_channel", levers=("accumulate16",)), target=VNNI, calibration=DATA)
    tvm_rsq.quantize(NETWORK, QuantConfig(levers=("shift",)), target="llvm", calibration=DATA)
