"""docs/reference: Python, the command line, targets and passes, written out of the code's own words.

Nothing in it depends on the machine, so that a test can hold what is committed to what would be written.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

import tvm_rsq
from tvm_rsq.cli.app import app
from tvm_rsq.targets.presets import GROUPS, aliases_of

ROOT = Path(__file__).resolve().parents[2]
_KINDS = ("functions", "classes", "configurations", "errors")


def pages() -> Mapping[str, str]:
    """File name -> its text."""
    return {"python.md": _python(), "command-line.md": _command_line(), "targets.md": _targets(), "passes.md": _passes()}


def _python() -> str:
    parts: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for name in sorted(tvm_rsq.__all__):
        value = getattr(tvm_rsq, name)
        parts[_kind(value)].append(_entry(name, value))
    body = "\n".join(f"## {kind.capitalize()}\n\n" + "\n".join(parts[kind]) for kind in _KINDS)
    return f"# Python\n\nWritten from the docstrings (`scripts/docs reference`). `import tvm_rsq`; everything else is private.\n\n{body}"


def _kind(value: Any) -> str:
    if not inspect.isclass(value):
        return "functions"
    if issubclass(value, Exception):
        return "errors"
    return "configurations" if value.__name__.endswith(("Config", "Override")) else "classes"


def _entry(name: str, value: Any) -> str:
    if inspect.isclass(value) and issubclass(value, Exception):
        return f"- **{name}** ({value.__mro__[1].__name__}): {inspect.getdoc(value)}"
    lines = [f"### {name}", ""]
    if not inspect.isclass(value):
        lines += _code(f"{name}{_signature(value)}")
    elif is_dataclass(value):
        lines += _code("\n".join(f"{field.name}: {field.type}" for field in fields(value) if field.repr))
    lines += _code(inspect.getdoc(value) or "")
    if inspect.isclass(value):
        for method, function in _methods(value):
            doc = (inspect.getdoc(function) or "").splitlines()
            lines.append(f"- `{method}{_signature(function)}`: {doc[0] if doc else ''}")
        lines.append("")
    return "\n".join(lines)


def _methods(value: type) -> Iterator[tuple[str, Any]]:
    for name, member in vars(value).items():
        function = getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function) and inspect.getdoc(function):
            yield name, function


def _signature(function: Any) -> str:
    text = re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", str(inspect.signature(function)))
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # of annotations, not of defaults
    return text.replace("tvm_rsq.", "").replace("(self, ", "(").replace("(self)", "()")


def _code(text: str) -> list[str]:
    return ["```text", *text.splitlines(), "```", ""]


def _command_line() -> str:
    says = "Written from the commands themselves (`scripts/docs reference`); `tvm-rsq COMMAND --help` says the same."
    lines = ["# The command line", "", says, ""]
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        lines += [f"## tvm-rsq {name}", "", *_code(inspect.cleandoc(command.help or "")), "| | |", "|---|---|"]
        for parameter in command.params:
            names = ", ".join((*parameter.opts, *parameter.secondary_opts)) if parameter.param_type_name == "option" else ""
            shown = " ".join(filter(None, (names, parameter.metavar or _values(parameter.type_descriptor.annotation))))
            lines.append(f"| `{_cell(shown or parameter.name)}` | {_cell(parameter.help or '')}{_default(parameter)} |")
        lines.append("")
    return "\n".join(lines)


def _values(annotation: Any) -> str:
    """What an option without a word of its own for it takes; "" for a flag."""
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    return {int: "INT", float: "FLOAT", str: "TEXT"}.get(annotation, "")


def _default(parameter: Any) -> str:
    value = parameter.default
    if parameter.required or value is None or isinstance(value, bool) or callable(value) or value in ("", (), []):
        return ""
    return f" Default: `{value}`."


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def _targets() -> str:
    says = "Names that `--target` and `target=` take beside `llvm -mtriple=... -mcpu=...` (`scripts/docs reference`)."
    lines = ["# Targets", "", says, ""]
    for title, group in GROUPS.items():
        lines += [f"## {title}", "", "| name | also | TVM's target |", "|---|---|---|"]
        for name, target in group.items():
            options = ", ".join(f"{key}={value}" for key, value in target.items())
            lines.append(f"| `{name}` | {', '.join(f'`{alias}`' for alias in aliases_of(name))} | {_cell(options)} |")
        lines.append("")
    return "\n".join(lines)


def _passes() -> str:
    """In the folder's order: their own is in tvm_rsq/pipeline.py and tvm_rsq/frontend/canonical.py."""
    order = "`tvm_rsq/frontend/canonical.py`, `tvm_rsq/pipeline.py`"
    lines = ["# Passes", "", f"What the files of `passes/` say of themselves (`scripts/docs reference`). Their order: {order}.", ""]
    for path in sorted((ROOT / "passes").glob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        if path.stem == "__init__" or not doc:
            continue
        first, _, rest = doc.partition("\n\n")
        lines += [f"## {path.stem}", "", " ".join(first.split()), "", *(_code(rest) if rest else [])]
    return "\n".join(lines)
