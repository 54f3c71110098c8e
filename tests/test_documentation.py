"""Every command and snippet of README and docs is run, on a tiny network under the names that the pages use.

What cannot be run here says why in a comment above it, `<!-- not run: ... -->`, and is parsed all the same: documentation/test_spelling.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import tvm_rsq
from scripts.documentation.blocks import Block, blocks, commands
from scripts.documentation.execute import execute, namespace
from scripts.documentation.reference import pages
from scripts.documentation.run import run_page, shortened
from scripts.models import mobilenetv2
from scripts.models.network import Network
from scripts.models.preprocessing import TORCHVISION
from tests.documentation.loopback import Loopback, loopback
from tests.integer_case import seeded
from tests.qdq_made import DATA
from tests.remote.programs import wait_until
from tvm_rsq import layer_cost
from tvm_rsq.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
RUN = [name for name, page in zip(NAMES, PAGES, strict=True) if any(b.kind in ("bash", "python") and not b.not_run for b in blocks(page))]
IMAGE = (1, 3, 16, 16)


class Tiny(nn.Module):
    """With the layer that the tutorial names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.features = nn.Sequential(nn.Identity(), nn.Module())
        self.features[1].conv = nn.Sequential(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)))
        self.classifier = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu6(self.norm(self.first(x)))
        return self.classifier(nn.functional.relu(self.features[1].conv(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that pages take for granted."""
    folder = tmp_path_factory.mktemp("files")
    network, x = seeded(Tiny()), torch.randn(IMAGE, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notice that there is a newer one
        torch.onnx.export(network, (x,), str(folder / "net.onnx"), dynamo=False, opset_version=17)
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.standard_normal(IMAGE, np.float32))
    np.save(folder / "inputs.npy", rng.standard_normal((8, *IMAGE[1:]), np.float32))
    shutil.copy(DATA / "qdq-onnxruntime.onnx", folder / "net.qdq.onnx")
    tvm_rsq.compile(folder / "net.onnx", "llvm", tvm_rsq.QuantConfig(levers="none")).save(folder / "net.rsq")
    for name in ("a.rsq", "b.rsq", "c.rsq"):
        shutil.copy(folder / "net.rsq", folder / name)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of them to work in, with the scripts as a checkout has them; MobileNetV2 is the tiny network."""
    for path in made.iterdir():
        shutil.copy(path, tmp_path)
    for name in ("scripts", "tests", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TVM_RSQ_TIMINGS", str(tmp_path_factory.getbasetemp() / "timings.jsonl"))
    monkeypatch.setattr(layer_cost, "_MOST_ROUNDS", 2)  # times need not be right here
    monkeypatch.setattr(layer_cost, "_ROUNDS", 2)
    network, x = seeded(Tiny()), torch.zeros(IMAGE)
    tiny = Network(network, (x,), replace(TORCHVISION, crop=IMAGE[-1]))
    monkeypatch.setattr(mobilenetv2, "load", lambda cache=None: tiny)
    monkeypatch.setattr(mobilenetv2, "model", lambda: (network, (x,)))
    return tmp_path


@pytest.mark.parametrize("name", RUN)
def test_what_a_page_says_is_run(name: str, folder: Path) -> None:
    names = namespace(network=seeded(Tiny()), x=torch.zeros(IMAGE), x_numpy=np.zeros(IMAGE, np.float32))
    with loopback(folder) as boards:
        for block in blocks(ROOT / name):
            if block.not_run:
                continue
            if block.kind == "python":
                execute(block, names, folder)
            elif block.kind == "bash":
                for line, words in commands(block.text):
                    run(line, boards.here(words), block, boards)


def run(line: str, words: list[str], block: Block, boards: Loopback) -> None:
    """A command of ours in this process, any other by the shell; what ends with & is left running until the page ends."""
    if words[-1] == "&":
        boards.start(words[:-1])
        return
    if words[0] == "tvm-rsq" and not set(words) & {"|", "&&", "||"}:
        words = words[: words.index(">")] if ">" in words else words
        done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
        assert done.exit_code == 0, f"{block.place}: {' '.join(words)}: {done.output}"
        return
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    text = line.replace(".venv/bin/python", sys.executable)
    ended = subprocess.run(["bash", "-c", text], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert ended.returncode == 0, f"{block.place}: {text}: {ended.stderr}"


@pytest.mark.parametrize("name", pages())
def test_the_reference_is_what_the_code_says(name: str) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text("utf-8") == pages()[name].rstrip() + "\n", "run: scripts/docs reference"


def test_what_is_shown_as_printed_was_printed() -> None:
    """Of pages whose outputs `scripts/docs run` puts in; others show what a machine said at a time."""
    for name in NAMES:
        assert all(block.text.strip() for block in blocks(ROOT / name) if block.kind == "output"), f"run: scripts/docs run {name}"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            found = (page.parent / path).resolve() if path else page
            assert found.exists(), f"{page.name} leads to {target}, which does not exist"
            assert not anchor or anchor in anchors(found), f"{page.name} leads to {target}, which has no such heading"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_a_page_is_rewritten_with_what_was_printed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```bash\necho one && seq 30\n```\n\n```\nold\n```\n\n```python\nprint(6 * 7)\n```\n\n```\n```\n")
    run_page(page)
    text = page.read_text()
    assert "```\none\n1\n" in text and "\n...\n24\n" in text and "```\n42\n```" in text and "old" not in text
    assert shortened(["a"] * 24) == ["a"] * 24 and len(shortened(["a"] * 25)) == 24


def test_what_is_left_running_is_seen_and_ends_with_the_page(tmp_path: Path) -> None:
    page, mark = tmp_path / "page.md", f"sleep 98.{os.getpid()}"
    page.write_text(f"```bash\nbash -c 'echo ready; {mark}' &\n```\n\n```\n```\n\n```bash\npgrep -fc '{mark}'\n```\n\n```\n```\n")
    run_page(page)
    ready, count = re.findall(r"```\n(\w+)\n```", page.read_text())
    assert ready == "ready" and int(count) >= 1
    wait_until(lambda: subprocess.run(["pgrep", "-f", mark], capture_output=True).returncode == 1)


def test_a_block_that_fails_or_is_never_closed_is_told_with_its_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\necho no >&2; false\n```\n")
    with pytest.raises(RuntimeError, match="page.md shows no output to put in"):
        run_page(page)
    page.write_text("```bash\necho no >&2; false\n```\n\n```\n```\n")
    with pytest.raises(RuntimeError, match="page.md:1 ended with 1: no"):
        run_page(page)
    page.write_text("```bash\ntrue\n")
    with pytest.raises(ValueError, match="never closed"):
        blocks(page)
    page.write_text("```fortran\n```\n")
    with pytest.raises(ValueError, match="a block of fortran"):
        blocks(page)
