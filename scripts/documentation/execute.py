"""A page's Python, block by block in one namespace, with its source where TVMScript's parser looks for it: in a file."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

from scripts.documentation.blocks import Block

_MODULE = "documented_page"


def namespace(**given: Any) -> dict[str, Any]:
    """Of a page. A module of that name, since a class is asked for its module's file."""
    module = types.ModuleType(_MODULE)
    sys.modules[_MODULE] = module
    module.__dict__.update(given)
    return module.__dict__


def execute(block: Block, names: dict[str, Any], folder: Path) -> None:
    """folder: where the source is put. Whatever the page's code raises is raised."""
    path = folder / f"{block.page.stem}_{block.first}.py"
    path.write_text(block.text + "\n", "utf-8")
    names["__file__"] = str(path)
    exec(compile(block.text, str(path), "exec"), names)  # the page's own code
