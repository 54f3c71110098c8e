"""Levers on the command line and in the report: how they are given, and how a plan that uses them is shown."""

from __future__ import annotations

import io

import pytest
import typer
from rich.console import Console

from tvm_rsq.cli.options import quant_config
from tvm_rsq.cli.show import frontier_table, layer_table
from tvm_rsq.layer_record import Alternative, LayerPlan
from tvm_rsq.plan import QuantPlan
from tvm_rsq.report import page
from tvm_rsq.report.data import ReportData
from tvm_rsq.report.summary import chosen_kl

SHIFTED = LayerPlan(
    name="a.weight", op="conv2d", scheme="per_channel", weight_scale=(0.5, 0.25), kl_per_tensor=0.2, kl_per_channel=0.1, requantize="shift",
    accumulate16=2, time_us=12.0, reason="40 % of 20.0 us saved",
    considered=(
        Alternative(scheme="per_channel", kl=0.1, time_us=20.0),
        Alternative(scheme="per_channel", requantize="shift", accumulate16=2, kl=0.15, time_us=12.0),
    ),
)  # fmt: skip
PLAIN = LayerPlan(name="b.weight", op="dense", scheme="per_tensor", weight_scale=(0.1,), kl_per_tensor=0.3)
POINTS = [
    {"budget": 0.0, "time_us": 200.0, "excess": 0.0, "kl": 0.01},
    {"budget": 0.0, "time_us": 150.0, "excess": 0.0, "kl": 0.012},
    {"budget": 0.05, "time_us": 100.0, "excess": 0.002, "kl": 0.014},
]


def plan(*layers: LayerPlan, **provenance: object) -> QuantPlan:
    return QuantPlan(network_hash="0", layers=layers, tensors={}, provenance={"budget": 0.05, **provenance})


def shown(*items) -> str:
    console = Console(file=io.StringIO(), width=240)
    for item in items:
        console.print(item)
    return console.file.getvalue()


def test_columns_of_levers_appear_where_one_is_used():
    text = shown(layer_table([SHIFTED, PLAIN]))
    assert "accumulate16" in text and "shift" in text and "12.0 µs" in text
    assert "accumulate16" not in shown(layer_table([PLAIN])) and "requantize" not in shown(layer_table([PLAIN]))


def test_the_frontier_is_told_against_the_baseline():
    text = shown(*frontier_table(plan(SHIFTED, frontier=POINTS, target="a CPU")))
    lines = text.splitlines()
    assert "a CPU" in text and "this plan: 5%" in text
    assert lines[-3].split() == ["none", "200", "µs", "1.000", "0", "0.01"]
    assert lines[-1].split() == ["5", "%", "100", "µs", "0.500", "0.002", "0.014"]
    assert frontier_table(plan(PLAIN)) == []


def test_the_report_shows_both():
    text = page.render(ReportData(network="n", target="t", plan=plan(SHIFTED, PLAIN, frontier=POINTS, target="a <CPU>")))
    assert "accumulate16" in text and "Latency against divergence" in text and "a &lt;CPU&gt;" in text and "0.500" in text
    bare = page.render(ReportData(network="n", target="t", plan=plan(PLAIN)))
    assert "accumulate16" not in bare and "Latency against divergence" not in bare


def test_the_divergence_of_the_way_that_was_chosen():
    assert chosen_kl(SHIFTED) == 0.15 and chosen_kl(PLAIN) == 0.3


def test_levers_as_text():
    assert quant_config().levers == "auto" and quant_config(levers="none").levers == "none"
    assert quant_config(levers="shift, per_tensor").levers == ("per_tensor", "shift")
    assert quant_config(requantize="fixed_point").requantize == "fixed_point"
    with pytest.raises(typer.BadParameter, match="expected 'auto', 'none', or some of"):
        quant_config(levers="winograd")
    override = quant_config(overrides=["a*=requantize=shift,accumulate16=2"]).overrides["a*"]
    assert (override.requantize, override.accumulate16) == ("shift", 2)
    for wrong in ("accumulate16=3", "requantize=half", "float,requantize=shift"):
        with pytest.raises(typer.BadParameter):
            quant_config(overrides=[f"a*={wrong}"])
