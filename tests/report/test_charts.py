from __future__ import annotations

from dataclasses import replace

import pytest
from report_sample import report_data

from tvm_rsq.report import charts, formats, summary
from tvm_rsq.report.axes import Axis, linear_axis, log_axis
from tvm_rsq.report.data import LatencyRow, LayerTime


def test_log_axis_is_whole_decades_and_places_them_evenly():
    axis = log_axis([3e-5, 0.0, 2e-2], 300, 0)
    assert (axis.low, axis.high) == (pytest.approx(1e-5), pytest.approx(1e-1))
    assert [y for y, _ in axis.ticks()] == [300, 225, 150, 75, 0]
    assert axis.at(0.0) == 300  # not measurable is drawn at the foot
    assert axis.at(1e-3) == 150


def test_log_axis_needs_a_positive_value():
    assert log_axis([0.0, -1.0], 0, 1) is None


def test_linear_ticks_are_round():
    assert [label for _, label in linear_axis(0, 4.6, 0, 100, margin=0).ticks()] == ["0", "1", "2", "3", "4"]
    assert Axis(0, 1, 0, 100).at(7) == 100


def test_more_divergence_is_drawn_higher():
    chart = charts.sensitivity(report_data().plan.layers)
    for point in chart.points:
        if point.y_per_tensor is not None:
            assert (point.y_per_tensor < point.y_per_channel) == (point.layer.kl_per_tensor > point.layer.kl_per_channel * 1.01)


def test_a_layer_s_kernels_are_summed():
    data = report_data(layers=2)
    name = data.plan.layers[0].name
    times = (LayerTime(layer=name, kernel="a", time_us=1.0), LayerTime(layer=name, kernel="b", time_us=2.5))
    first, second = summary.layer_rows(replace(data, layer_times=times))
    assert (first.time_us, first.kernel, second.time_us) == (3.5, "a, b", None)


def test_speed_is_baseline_over_ours():
    rows = tuple(
        LatencyRow(build=b, times_us=t, artifact_bytes=1, target="llvm", threads=1)
        for b, t in (("INT8", (1.0, 2.0, 9.0)), ("FP32", (6.0,)))
    )
    found = summary.speed(replace(report_data(layers=1), latencies=rows))
    assert (found.median_us, found.baseline_us, found.ratio) == (2.0, 6.0, 3.0)


def test_quantile_interpolates():
    assert summary.quantile([4.0, 0.0, 2.0], 0.25) == 1.0
    with pytest.raises(ValueError):
        summary.quantile([], 0.5)


def test_one_stray_time_does_not_set_the_scale():
    row = LatencyRow(build="INT8", times_us=(*[1000.0] * 300, 90_000.0), artifact_bytes=1, target="llvm", threads=1)
    assert 1 < charts.latency((row,)).axis.high < 2


def test_rate_is_macs_over_time():
    data = replace(report_data(layers=1), layer_times=(LayerTime(layer="x", kernel="k", time_us=10.0, macs=4_000_000),))
    assert charts.time_bars(data)[0].gmac_per_s == pytest.approx(400)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.50 µs"), (999.0, "999 µs"), (1234.0, "1.23 ms"), (99.97, "100 µs"), (3.2e6, "3.20 s"), (None, "–")],
)
def test_durations(value, text):
    assert formats.duration(value) == text


def test_sizes_and_scales():
    assert [formats.size(v) for v in (0, 512, 3512, 14e6)] == ["0 B", "512 B", "3.51 kB", "14.0 MB"]
    assert formats.scales((0.5,)) == "0.5" and formats.scales((0.001, 0.03)) == "0.001 … 0.03" and formats.scales(()) == "–"
