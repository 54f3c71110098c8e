"""Both pages in headless Chromium: sorting, filters, dark colours, the width of a phone and that of paper. One start for all of it.

The pages are frames of one that clicks and measures: a window cannot be as narrow as a phone, and a frame can. What is measured comes
back as JSON in the dumped DOM.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

from tests.report.comparison_sample import three
from tests.report.report_sample import HOSTILE, report_data
from tvm_rsq.report.comparison import compare_layers
from tvm_rsq.report.comparison_page import render_comparison
from tvm_rsq.report.page import render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHONE, PORTRAIT, LANDSCAPE = 360, 718, 1047  # CSS pixels; the latter two of A4 without the margins that style.css asks for
FRAMES = {
    f"{page}-{name}": (page, width)
    for page in ("one", "several")
    for name, width in (("phone", PHONE), ("portrait", PORTRAIT), ("landscape", LANDSCAPE))
}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the pages are not tried in a browser")

_MEASURE = """
const shown = (page) => [...page.querySelectorAll("table.layers tbody tr")].filter((row) => !row.hidden);
const numbers = (page) => shown(page).map((row) => Number(row.cells[0].textContent));
const set = (page, selector, value) => {
  const control = page.querySelector(selector);
  control.type === "checkbox" ? (control.checked = value) : (control.value = value);
  control.dispatchEvent(new Event("input", { bubbles: true }));
};
const column = (page, name, nth = 0) =>
  [...page.querySelectorAll("table.layers thead tr:last-child th")].filter((head) => head.textContent.endsWith(name))[nth];
const sorted = (page, head) => {
  head.querySelector("button").click();
  const at = head.cellIndex;
  return [head.getAttribute("aria-sort"), shown(page).map((row) => row.cells[at].dataset.v)];
};
const narrowed = (page, selector, value) => {
  set(page, selector, value);
  const found = [page.querySelector(".count").textContent, numbers(page)];
  page.querySelector(".reset").click();
  return found;
};
const cut = (page) => [...page.querySelectorAll(".scroll")].map((box) => [
  box.querySelector("table, svg").getAttribute("class"), box.scrollWidth - box.clientWidth
]);
const printed = (page) => {
  for (const rule of page.styleSheets[0].cssRules) if (rule.media && rule.media.mediaText === "print") rule.media.mediaText = "all";
  return cut(page);
};
const addressed = (page, fragment) => {
  const view = page.defaultView;
  view.history.replaceState(null, "", view.location.href.split("#")[0] + fragment);
  view.dispatchEvent(new Event("hashchange"));
  return [numbers(page), [...page.querySelectorAll("[aria-sort]")].map((head) => [head.textContent, head.getAttribute("aria-sort")])];
};
addEventListener("load", () => {
  const documents = Object.fromEntries(
    [...document.querySelectorAll("iframe")].map((frame) => [frame.id, frame.contentDocument])
  );
  const one = documents["one-phone"], several = documents["several-phone"];
  const result = {
    titles: Object.values(documents).map((page) => page.title),
    page_width: [one, several].map((page) => page.documentElement.scrollWidth),
    colours: [one, several].map((page) => [getComputedStyle(page.body).backgroundColor, getComputedStyle(page.body).color]),
    tools: [one, several].map((page) => !page.querySelector(".tools").hidden),
    buttons: [one, several].map((page) =>
      [...page.querySelectorAll("table.layers thead tr:last-child th")].map((head) => head.querySelectorAll("button").length)
    ),
    macs: [sorted(one, column(one, "MACs")), sorted(one, column(one, "MACs"))],
    kl: [sorted(one, column(one, "KL per tensor")), sorted(one, column(one, "KL per tensor"))],
    sorted_by: [...one.querySelectorAll("[aria-sort]")].length,
    error_of_b: sorted(several, column(several, "weight error", 1)),
  };
  for (const page of [one, several]) column(page, "#").querySelector("button").click();
  Object.assign(result, {
    words: narrowed(one, ".filter", "features.1. DEPTHWISE"),
    scheme: narrowed(one, "[data-key=scheme]", "per-tensor"),
    bits: narrowed(one, "[data-key=bits]", "4"),
    op: narrowed(one, "[data-key=op]", "conv2d"),
    nothing: narrowed(one, ".filter", "no such layer"),
    everything: numbers(one),
    differs: narrowed(several, "[data-key=differs]", true),
    any_build: narrowed(several, "[data-key=scheme]", "per-channel"),
  });
  set(one, "[data-key=scheme]", "per-tensor");
  set(one, ".filter", "conv.1");
  sorted(one, column(one, "MACs"));
  sorted(one, column(one, "MACs"));
  const fragment = one.defaultView.location.hash, asked = numbers(one);
  one.querySelector(".reset").click();
  Object.assign(result, {
    address: [fragment, asked, one.defaultView.location.hash, numbers(one)],
    restored: addressed(one, fragment),
    foreign: addressed(one, "#bits=17&sort=99&what=ever"),
    printed: ["one", "several"].map((name) => ["portrait", "landscape"].map((paper) => printed(documents[`${name}-${paper}`]))),
    controls_printed: [...documents["several-landscape"].querySelectorAll(".tools")].map((tools) => getComputedStyle(tools).display),
  });
  document.getElementById("found").textContent = JSON.stringify(result);
});
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("browser")
    pages = {"one": render(report_data()), "several": render_comparison(three())}
    frames = "".join(
        f'<iframe id="{name}" width="{width}" height="600" srcdoc="{html.escape(pages[page])}"></iframe>'
        for name, (page, width) in FRAMES.items()
    )
    (folder / "measure.html").write_text(f'<!doctype html><body><pre id="found"></pre>{frames}<script>{_MEASURE}</script></body>')
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--blink-settings=preferredColorScheme=0",
        f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--dump-dom", (folder / "measure.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line or "Content Security Policy" in line]
    assert said and said.group(1), complaints
    return {**json.loads(html.unescape(said.group(1))), "complaints": complaints}


def test_no_injected_script_runs_and_nothing_is_complained_of(found):
    assert set(found["titles"]) == {"mobilenetv2 on llvm -mcpu=cascadelake", "mobilenetv2: 3 builds side by side"}
    assert found["complaints"] == []


def test_a_phone_does_not_scroll_sideways(found):
    assert found["page_width"] == [PHONE, PHONE]


def test_dark_is_dark(found):
    for ground, ink in found["colours"]:
        assert sum(map(int, re.findall(r"\d+", ground))) < 150 and sum(map(int, re.findall(r"\d+", ink))) > 600


def test_every_header_has_a_button_and_the_tools_are_shown(found):
    assert found["tools"] == [True, True]
    assert set(found["buttons"][0]) == {1} and found["buttons"][1] == [1] * 13


def test_numbers_are_sorted_as_numbers_and_what_is_missing_is_last(found):
    macs = sorted(layer.macs for layer in report_data().plan.layers)
    assert found["macs"][0] == ["ascending", [str(value) for value in macs]]
    assert found["macs"][1] == ["descending", [str(value) for value in reversed(macs)]]
    for direction, values in zip((1, -1), (values for _, values in found["kl"]), strict=True):
        numbers = [float(value) for value in values[:-1]]
        assert values[-1] == "" and numbers == sorted(numbers)[::direction]
    assert found["sorted_by"] == 1
    errors = [layer.weight_nmse for layer in three()[1].layers if layer.weight_nmse is not None]
    direction, values = found["error_of_b"]
    assert direction == "ascending" and [float(value) for value in values[: len(errors)]] == sorted(errors)
    assert set(values[len(errors) :]) == {""}


def test_filters_show_what_is_asked_for_and_count_it(found):
    layers = report_data().plan.layers

    def of(condition) -> list:
        numbers = [i for i, layer in enumerate(layers, 1) if condition(layer)]
        assert 0 < len(numbers) < 53
        return [f"{len(numbers)} of 53 layers", numbers]

    assert found["words"] == of(lambda layer: "features.1." in layer.name and layer.op == "depthwise_conv2d")
    assert found["scheme"] == of(lambda layer: layer.scheme == "per_tensor")
    assert found["bits"] == of(lambda layer: layer.weight_bits == 4 and layer.scheme != "float")
    assert found["op"] == of(lambda layer: layer.op == "conv2d"), "and no depthwise one"
    assert found["nothing"] == ["0 of 53 layers", []] and found["everything"] == list(range(1, 54))


def test_what_was_asked_for_is_in_the_address(found):
    fragment, asked, after_reset, everything = found["address"]
    assert fragment == "#scheme=per-tensor&q=conv.1&sort=-11" and 1 < len(asked) < 53
    assert after_reset == "" and everything == list(range(1, 54))
    assert found["restored"] == [asked, [["MACs", "descending"]]]
    assert found["foreign"] == [list(range(1, 54)), []], "an address of another page asks for nothing that is here"


def test_only_layers_that_differ(found):
    rows = compare_layers(three())
    differing = [row.index for row in rows if row.differs]
    assert 0 < len(differing) < len(rows)
    assert found["differs"] == [f"{len(differing)} of 12 layers, {len(differing)} differ", differing]
    some = [row.index for row in rows if any(cell.plan and cell.plan.scheme == "per_channel" for cell in row.cells)]
    assert 0 < len(some) < 12 and found["any_build"][1] == some, "in any of the builds"


def test_paper_cuts_no_table(found):
    for portrait, landscape in found["printed"]:
        upright = [entry for entry in portrait if not entry[0].startswith("layers")]
        wide = [entry for entry in landscape if entry[0].startswith("layers")]
        assert len(wide) == 1 and upright and not [entry for entry in upright + wide if entry[1] > 0]
    assert found["controls_printed"] == ["none"]


def test_the_sample_has_a_hostile_name():
    assert any(layer.name == HOSTILE for layer in report_data().plan.layers) and HOSTILE in three()[1].label
