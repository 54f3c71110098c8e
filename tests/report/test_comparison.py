"""What is matched, what is marked as different, and which figures are set side by side."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.comparison_sample import FLOAT, build, three, without
from tvm_rsq.layer_record import LayerPlan
from tvm_rsq.report.comparison import Build, compare_layers, levers_of
from tvm_rsq.report.comparison_charts import divergences, strips
from tvm_rsq.report.comparison_figures import figure_rows
from tvm_rsq.report.data import Fidelity, LatencyRow
from tvm_rsq.report.labels import distinct_labels
from tvm_rsq.report.measured import Measured
from tvm_rsq.report.settings import compare_settings
from tvm_rsq.report.summary import filter_choices, mean_bits


def _with_layers(made, *layers):
    return replace(made, report=replace(made.report, plan=replace(made.report.plan, layers=layers)))


def _figure(rows, title):
    return next(row for row in rows if row.title == title)


LAYER = LayerPlan(name="w", op="dense", scheme="per_tensor", weight_scale=(0.1,), weight_bytes=100)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({}, set()),
        ({"scheme": "per_channel", "weight_scale": (0.1, 0.2)}, {"scheme"}),
        ({"weight_bits": 4}, {"bits"}),
        ({"weight_bits": 4, "codebook": (tuple(float(v) for v in range(-8, 8)),)}, {"bits"}),
        ({"requantize": "shift", "accumulate16": 2}, {"levers"}),
        ({"weight_scale": (0.3,), "kl_per_tensor": 0.5, "weight_nmse": 0.1, "time_us": 4.0}, set()),
    ],
    ids=["alike", "scheme", "bits", "codebook", "levers", "measurements"],
)
def test_decisions_are_marked_and_measurements_are_not(change, differs):
    (row,) = compare_layers([_with_layers(build("a"), LAYER), _with_layers(build("b"), replace(LAYER, **change))])
    assert row.cells[0].differs == set() and row.cells[1].differs == differs and row.differs == bool(differs)


def test_a_codebook_differs_from_as_many_bits_without_one():
    bits = replace(LAYER, weight_bits=4)
    (row,) = compare_layers(
        [_with_layers(build("a"), bits), _with_layers(build("b"), replace(bits, codebook=(tuple(float(v) for v in range(-8, 8)),)))]
    )
    assert row.cells[1].differs == {"bits"}


def test_layers_are_matched_by_name_and_keep_their_place():
    whole = build("a")
    rows = compare_layers([without(whole, 5), whole, FLOAT])
    names = [layer.name for layer in whole.layers]
    assert [row.name for row in rows] == names and [row.index for row in rows] == list(range(1, 13))
    assert rows[5].differs and rows[5].cells[0].plan is None and rows[5].cells[1].plan.name == names[5]
    assert not rows[5].cells[1].differs, "there is nothing to differ from"
    assert all(len(row.cells) == 2 for row in rows), "an FP32 build has no layers"
    assert not any(row.differs for row in rows if row.index != 6)


def test_networks_with_no_name_in_common_follow_each_other():
    other = _with_layers(build("b"), *(replace(layer, name=f"other.{layer.name}") for layer in build("b").layers))
    rows = compare_layers([build("a"), other])
    assert len(rows) == 24 and all(row.differs for row in rows)


def test_times_are_profiled_ones_or_those_of_the_decision():
    timed = _with_layers(build("a"), replace(LAYER, time_us=7.0))
    (row,) = compare_layers([replace(timed, report=replace(timed.report, layer_times=())), timed])
    assert row.cells[0].cost == 7.0 and row.cells[1].cost is None, "the profile has no such layer"


def test_the_measure_of_a_plan_that_counted_is_its_own():
    made = build("a", layer_times=())
    counted = replace(made, report=replace(made.report, plan=replace(made.report.plan, provenance={"measure": "modelled-cycles"})))
    assert (counted.measure, made.measure, FLOAT.measure) == ("modelled-cycles", "time", "time")


def test_figures_are_told_against_the_first_and_the_best_is_marked():
    small = build("b", seed=1, weight_bytes_after=1_756_000)
    rows = figure_rows([build("a"), small, FLOAT])
    weights = _figure(rows, "weights").figures
    assert [figure.best for figure in weights] == [False, True, False] and weights[1].to_first == pytest.approx(0.5)
    assert weights[0].of_longest == 1 and weights[2].value is None and weights[2].text == "–"
    assert [figure.value for figure in _figure(rows, "file").figures] == [3_900_000, 3_900_001, 13_000_000]
    assert not any(figure.best for figure in _figure(figure_rows([small, small]), "weights").figures), "equal ones are no contest"


def _timed(label: str, low: float, *, turns: str = "bench.json") -> Build:
    """A build whose times are low to low + 20 microseconds."""
    row = LatencyRow(build="quantized", times_us=tuple(low + t for t in range(21)), artifact_bytes=1, target="llvm", threads=1)
    return replace(build(label), measured=Measured(latencies=(row,), turns=turns))


def test_the_fastest_is_named_where_builds_ran_in_turns_and_it_is_clear():
    latency = _figure(figure_rows([_timed("a", 1000), _timed("b", 1050)]), "latency")
    assert [figure.best for figure in latency.figures] == [True, False] and latency.note == "median, 1 thread; in turns"
    assert [figure.value for figure in latency.figures] == [1010, 1060]


@pytest.mark.parametrize(
    ("builds", "why"),
    [
        ((_timed("a", 1000), _timed("b", 1005)), "too close to call"),
        ((_timed("a", 1000), _timed("b", 1050, turns="other.json")), "each measured apart"),
        ((_timed("a", 1000), build("b")), "each measured apart"),
        ((build("a"), build("b")), "each measured apart"),
        ((_timed("a", 1000), _timed("b", 1050), FLOAT), "not all measured"),
    ],
    ids=["close", "two files", "a file and a report", "reports", "one without"],
)
def test_no_build_is_called_the_fastest_otherwise(builds, why):
    latency = _figure(figure_rows(builds), "latency")
    assert why in latency.note and not any(figure.best for figure in latency.figures)


def test_a_build_without_a_report_has_what_was_measured_of_it():
    entry = Fidelity(source="x.npy", samples=9, agreement=1.0, kl=0.0, cosine=1.0)
    measured = Measured(latencies=_timed("", 1000).measured.latencies, turns="bench.json", fidelity=(entry,))
    rows = figure_rows([replace(FLOAT, measured=measured), _timed("b", 500)])
    assert _figure(rows, "latency").figures[0].value == 1010 and _figure(rows, "divergence from FP32").figures[0].text == "0 nats"


def test_what_is_no_number_is_missing_and_infinity_is_the_worst():
    """A network without classes has no agreement; outputs that are no numbers are infinitely far."""
    far, near = (
        replace(FLOAT, measured=Measured(fidelity=(Fidelity(source="x", samples=9, agreement=math.nan, kl=kl, cosine=1.0),)))
        for kl in (math.inf, 0.5)
    )
    rows = figure_rows([far, near])
    assert [figure.best for figure in _figure(rows, "divergence from FP32").figures] == [False, True]
    assert not any(row.title == "same answer as FP32" for row in rows)


def test_closeness_is_compared_on_the_same_inputs_alone():
    other = build("b", fidelity=(replace(build("b").report.fidelity[0], samples=50),))
    rows = [row for row in figure_rows([build("a"), other]) if row.title == "divergence from FP32"]
    assert [[figure.value is not None for figure in row.figures] for row in rows] == [[True, False], [True, False], [False, True]]
    assert not any(figure.best for row in rows for figure in row.figures)


def test_fp32_builds_have_a_file_and_nothing_else():
    (row,) = figure_rows([FLOAT, replace(FLOAT, file_bytes=1)])
    assert row.title == "file" and compare_layers([FLOAT, FLOAT]) == () and strips(()) is None
    assert compare_settings([None, None]) == ((), ())


def test_mean_bits_are_of_weights_and_not_of_layers():
    many, few = replace(LAYER, weight_bits=4, weight_bytes=300), replace(LAYER, weight_bytes=200)
    assert mean_bits([many, few]) == pytest.approx((600 * 4 + 200 * 8) / 800)
    assert mean_bits([replace(LAYER, scheme="float", weight_bits=8, weight_bytes=400)]) == 32 and mean_bits([]) is None


def test_only_settings_that_differ_are_among_those_that_do():
    first, second = build("a").report, replace(build("b").report, facts={"tvm_rsq": "0.2.0"})
    differing, alike = compare_settings([first, second, None])
    assert {setting.name for setting in differing} == {"tvm_rsq", "apache-tvm", "machine"}, "the command differs in every build"
    version = next(setting for setting in differing if setting.name == "tvm_rsq")
    assert version.values == ("0.1.0", "0.2.0", "–") and version.differs == (False, True, False)
    assert "config.budget" in {setting.name for setting in alike}


def test_charts_have_a_mark_for_every_layer_of_every_build():
    rows = compare_layers(three())
    drawn = strips(rows)
    assert [len(bars) for bars in drawn.strips] == [12, 11] and len(drawn.marks) == sum(row.differs for row in rows)
    heights = {bar.cell.plan.weight_bits: bar.height for bar in drawn.strips[0] if bar.cell.plan.scheme != "float"}
    assert heights[4] == heights[8] / 2
    points = divergences(rows).points
    assert points[5].marks[1] is None and points[0].marks[0][0] < points[0].x < points[0].marks[1][0], "side by side"
    assert divergences(compare_layers([build("a"), FLOAT])) is None


def test_choices_are_what_occurs():
    assert filter_choices(build("a").layers).grids == ("32", "8", "4")
    assert levers_of(replace(LAYER, requantize="fixed_point", accumulate16=4)) == "fixed-point, accumulate16=4" and levers_of(LAYER) == ""


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["x/a.rsq", "y/b.rsq"], ("a", "b")),
        (["x/net.rsq", "y/net.rsq", "y/small.rsq"], ("x/net", "y/net", "small")),
        (["p/x/net.rsq", "q/x/net.rsq"], ("p/x/net", "q/x/net")),
        (["net.rsq", "net.bin"], ("net.rsq", "net.bin")),
        (["net.rsq", "x/net.rsq"], ("HERE/net", "x/net")),
    ],
    ids=["names", "folders", "deeper", "suffixes", "inside"],
)
def test_labels_are_distinct_and_short(tmp_path, paths, labels):
    here = tmp_path.name
    assert distinct_labels([tmp_path / path for path in paths]) == tuple(label.replace("HERE", here) for label in labels)


def test_one_file_is_not_compared_with_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^a\.rsq is given twice"):
        distinct_labels([Path("b.rsq"), Path("a.rsq"), tmp_path / "a.rsq"])
