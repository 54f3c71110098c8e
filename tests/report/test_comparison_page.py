"""The page of several builds, as text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.report.comparison_sample import FLOAT, build, three
from tests.report.page_tags import assert_fetches_nothing, assert_one_script, tags
from tvm_rsq.errors import ConfigError
from tvm_rsq.report.comparison import compare_layers
from tvm_rsq.report.comparison_page import render_comparison, write_comparison


@pytest.fixture(scope="module")
def text() -> str:
    return render_comparison(three())


def _table(text: str) -> tuple[list[str], list[str]]:
    """The rows of head and body of the table of layers."""
    table = text[text.index('<table class="layers compared">') :].partition("</table>")[0]
    head, _, body = table.partition("<tbody>")
    return re.findall(r"<tr\b.*?</tr>", head, re.S), re.findall(r"<tr\b.*?</tr>", body, re.S)


def _width(row: str) -> int:
    return sum(int(attributes.get("colspan", 1)) for tag, attributes in tags(row) if tag in ("td", "th"))


def test_every_row_of_the_table_is_as_wide(text):
    head, body = _table(text)
    assert len(head) == 2 and len(body) == 12
    assert {_width(row) for row in head + body} == {3 + 2 * 5}


def test_what_differs_is_said_in_words_too(text):
    _, body = _table(text)
    rows = compare_layers(three())
    assert [("data-differs" in row) for row in body] == [row.differs for row in rows]
    for shown, row in zip(body, rows, strict=True):
        assert shown.count('<span class="unseen">differs: </span>') == sum(len(cell.differs) for cell in row.cells)
    assert body[5].count(">absent<") == 1
    assert sum(row.differs for row in rows) < 12 and f"{sum(row.differs for row in rows)} differ" in text


def test_the_page_fetches_nothing_and_runs_its_own_script_alone(text):
    assert_fetches_nothing(text)
    assert_one_script(text)
    policy = next(a["content"] for tag, a in tags(text) if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy


def test_hostile_words_are_text_wherever_they_are_from(text):
    assert "<script>document" not in text and text.count("&lt;script&gt;document") > 5
    assert "cortex-&lt;a72&gt;" in text and "cortex-<a72>" not in text


def test_only_what_there_is_has_a_column_or_a_section():
    bare = [build(label, seed=seed, latencies=(), layer_times=(), fidelity=(), facts={}, notes=()) for label, seed in (("a", 0), ("b", 1))]
    text = render_comparison(bare)
    (_, head), _ = _table(text)
    assert "time" not in head and "KL" in head and ">Latency<" not in text and "latency" not in text.partition("<tbody>")[2]
    floats = render_comparison([FLOAT, replace(FLOAT, label="other", file_bytes=1)])
    for heading in ("<h2>Layers", "<h2>Settings", "<h2>Schemes", "<h2>Divergence by"):
        assert heading in render_comparison(three()) and heading not in floats
    assert "FP32, without a plan" in floats and 'class="tools"' not in floats


def test_one_quantized_build_beside_fp32_has_nothing_that_differs():
    text = render_comparison([build("a"), FLOAT])
    assert "only layers that differ" not in text and "<h2>Layers" in text and "<h2>Schemes and bits" not in text


@pytest.mark.parametrize(("builds", "size"), [(2, "297mm 210mm"), (8, "672mm 475mm")])
def test_paper_grows_with_the_columns(builds, size):
    text = render_comparison([build(str(i), layers=2, histograms={}) for i in range(builds)])
    assert f"@page wide {{ size: {size}; }}" in text


def test_other_networks_are_said_to_be_others(text):
    stranger = replace(build("b", seed=1), network="resnet18")
    assert "networks are not the same" in render_comparison([build("a"), stranger]) and "networks are not the same" not in text


def test_the_same_builds_give_the_same_page(text):
    assert render_comparison(three()) == text


@pytest.mark.parametrize("count", [1, 9])
def test_too_few_or_too_many_builds_are_refused(count, tmp_path):
    with pytest.raises(ConfigError, match=rf"^{count} builds to compare, expected 2 to 8"):
        write_comparison([FLOAT] * count, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
