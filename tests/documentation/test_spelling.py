"""What README and docs do not run is understood all the same, and every path, command and option that they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.documentation.blocks import Block, blocks
from tests.documentation.spelled_right import ROOT, check_block, check_mention

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
NOT_RUN = [block for page in PAGES for block in blocks(page) if block.not_run]


@pytest.mark.parametrize("block", NOT_RUN, ids=[f"{block.page.relative_to(ROOT)}:{block.first}: {block.not_run}" for block in NOT_RUN])
def test_what_is_not_run_is_understood(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_block(block)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_text_names_is_there(name: str) -> None:
    for mentioned in re.findall(r"`([^`\n]+)`", prose(ROOT / name)):
        words = mentioned.split()
        if words[0] == "tvm-rsq" and len(words) > 1 and words[1].islower():
            check_mention(words[1:])
        if re.match(r"(scripts|tests|targets|passes|tvm_rsq|docs)/", words[0]):
            path = words[0].partition("::")[0].rstrip("/,")
            assert list(ROOT.glob(path)), f"{name} names {path}, which does not exist"


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("docs/reference")])
def test_outputs_are_not_empty(name: str) -> None:
    empty = [block.place for block in blocks(ROOT / name) if block.kind == "output" and not block.text.strip()]
    assert not empty, f"run: scripts/docs run {name}"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("bash", "tvm-rsq compile net.onnx -o net.rsq --no-such-option"),
        ("bash", "tvm-rsq compil net.onnx -o net.rsq"),
        ("bash", "tvm-rsq compile net.onnx -o net.rsq --weight-bits few"),
        ("bash", "tvm-rsq compile net.onnx"),
        ("bash", "ssh pi@board 'tvm-rsq run net.rsq --no-such-option'"),
        ("bash", "true && tvm-rsq run net.rsq --no-such-option > file"),
        ("bash", ".venv/bin/python scripts/fetch_models --no-such-option"),
        ("bash", "scripts/no_such_script"),
        ("bash", ".venv/bin/pip install -c constraints.txt -e '.[no-such-extra]'"),
        ("bash", "no-such-program"),
        ("python", "tvm_rsq.no_such_name"),
        ("python", "tvm_rsq.compile(network, no_such_keyword=1)"),
    ],
)
def test_what_is_spelled_wrong_is_found(kind: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, SystemExit)):
        check_block(Block(page=tmp_path / "page.md", kind=kind, text=text, first=1, last=2))  # type: ignore[arg-type]


def prose(page: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text("utf-8"), flags=re.M | re.S)
