from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest

from tests.report.page_tags import assert_fetches_nothing, assert_one_script, tags
from tests.report.report_sample import HOSTILE, plan, report_data
from tvm_rsq.layer_record import LayerPlan
from tvm_rsq.plan import QuantPlan
from tvm_rsq.report import page
from tvm_rsq.report.data import ReportData


def _body_rows(text: str) -> int:
    table = re.search(r'<table class="layers">.*?<tbody>(.*?)</tbody>', text, re.S).group(1)
    return len(re.findall(r"<tr\b", table))


@pytest.fixture(scope="module")
def text() -> str:
    return page.render(report_data())


def test_every_layer_has_a_row(text):
    assert _body_rows(text) == 53


def test_nothing_is_fetched(text):
    assert_fetches_nothing(text)


def test_hostile_names_are_text(text):
    assert_one_script(text)
    assert (
        html.escape(HOSTILE, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;").replace("/", "/<wbr>").replace(".", ".<wbr>")
        in text
    )


def test_only_the_page_s_own_script_is_admitted(text):
    policy = next(a["content"] for tag, a in tags(text) if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy and "script-src 'unsafe" not in policy


@pytest.mark.parametrize(
    ("part", "heading"),
    [
        ({"latencies": ()}, "<h2>Latency</h2>\n<div"),
        ({"layer_times": ()}, "Time by kernel"),
        ({"histograms": {}}, "Weights and their levels"),
        ({"loss_curve": ()}, "<h3>Loss</h3>"),
        ({"fidelity": ()}, "Agreement with FP32"),
        ({"notes": ()}, 'class="notes"'),
        ({"plan": replace(plan(), float_islands=())}, "Left in float"),
        (
            {"plan": replace(plan(), layers=tuple(replace(p, kl_per_tensor=None, kl_per_channel=None) for p in plan().layers))},
            "<h2>Sensitivity</h2>",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_part_without_data_is_left_out(text, part, heading):
    assert heading in text
    assert heading not in page.render(replace(report_data(), **part))


def test_the_least_report_renders():
    least = QuantPlan(network_hash="0", layers=(LayerPlan(name="w", op="dense", scheme="per_tensor", weight_scale=(0.1,)),), tensors={})
    assert _body_rows(page.render(ReportData(network="n", target="t", plan=least))) == 1


def test_a_slower_build_is_said_to_be_slower():
    data = report_data()
    swapped = tuple(replace(row, times_us=other.times_us) for row, other in zip(data.latencies, reversed(data.latencies), strict=True))
    assert "slower" in page.render(replace(data, latencies=swapped))
    assert "slower" not in page.render(data)


def test_the_same_data_gives_the_same_page(text):
    assert page.render(report_data()) == text


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        page.write(report_data(layers=3), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_what_plan_and_report_both_know_is_said_once():
    provenance = {"range_method": "mse", "budget": 0.005, "calibration_samples": 16, "notes": ["a note"], "judged_samples": 8, "seed": 3}
    facts = {"seed": "3", "activation ranges": "mse", "budget": "0.5 % more", "calibration": "16 inputs, statistics"}
    text = page.render(replace(report_data(), plan=replace(plan(), provenance=provenance), facts=facts))
    footer = text[text.index("<footer>") :]
    assert re.findall(r"<dt>(.*?)</dt>", footer) == [*facts, "judged samples", "network hash"]
