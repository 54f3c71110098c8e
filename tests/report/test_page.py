from __future__ import annotations

import html
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from report_sample import HOSTILE, plan, report_data

from tvm_rsq.layer_record import LayerPlan
from tvm_rsq.plan import QuantPlan
from tvm_rsq.report import page
from tvm_rsq.report.data import ReportData

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def _tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Tags()
    parser.feed(text)
    return parser.tags


def _body_rows(text: str) -> int:
    table = re.search(r'<table class="layers">.*?<tbody>(.*?)</tbody>', text, re.S).group(1)
    return len(re.findall(r"<tr\b", table))


@pytest.fixture(scope="module")
def text() -> str:
    return page.render(report_data())


def test_every_layer_has_a_row(text):
    assert _body_rows(text) == 53


def test_nothing_is_fetched(text):
    for tag, attributes in _tags(text):
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        for name in ("src", "href", "xlink:href", "data", "srcset", "action"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert "url(" not in text and "@import" not in text and "fetch(" not in text


def test_hostile_names_are_text(text):
    tags = _tags(text)
    assert sum(tag == "script" for tag, _ in tags) == 1
    assert not [a for _, attributes in tags for a in attributes if a.startswith("on")]
    assert (
        html.escape(HOSTILE, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;").replace(".", ".<wbr>").replace(".", ".<wbr>")
        in text
    )


def test_only_the_page_s_own_script_is_admitted(text):
    policy = next(a["content"] for tag, a in _tags(text) if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
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


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is not tried in a browser")
def test_in_a_browser_the_script_runs_and_the_injected_one_does_not(tmp_path, text):
    # the page's script un-hides the filter; a hostile one would set the title
    (tmp_path / "report.html").write_text(text)
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr", "--dump-dom", (tmp_path / "report.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    dom = done.stdout
    assert _body_rows(dom) == 53
    assert "<title>mobilenetv2 on llvm -mcpu=cascadelake</title>" in dom
    field = next(a for tag, a in _tags(dom) if tag == "input")
    assert "hidden" not in field
    assert "Content Security Policy" not in done.stderr and "CONSOLE" not in done.stderr
