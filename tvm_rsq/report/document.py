"""What every page of ours has in common: its templates and filters, and that it fetches nothing and runs no script but its own.

Everything that comes from a network (layer names above all) is text to escape: autoescape is on in every template, and a content
security policy admits only the page's own script, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Sequence
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.report import formats, summary

_FILTERS = ("size", "quantity", "duration", "nats", "percent", "ratio", "scales", "cost_figure")


def render_document(template: str, *, styles: Sequence[str] = ("style.css",), **values: object) -> str:
    """The page that `template` makes of `values`.   styles: files of the folder of templates, in this order"""
    script = _asset("page.js")
    environment = Environment(
        loader=PackageLoader("tvm_rsq.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {name: getattr(formats, name) for name in _FILTERS}
    environment.filters |= {
        "breakable": _breakable, "raw": _raw, "grid_name": summary.grid_name, "stored_bits": summary.stored_bits,
        "scheme_name": summary.SCHEME_LABELS.__getitem__,
    }  # fmt: skip
    return environment.get_template(template).render(
        style=Markup("\n".join(_asset(name) for name in styles)),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        labels=summary.SCHEME_LABELS,
        **values,
    )


def write_document(text: str, path: str | os.PathLike[str]) -> None:
    """Write a page to `path` atomically. OSError: the file system's own refusal."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _asset(name: str) -> str:
    return (resources.files("tvm_rsq.report") / "templates" / name).read_text(encoding="utf-8")


def _breakable(name: str) -> Markup:
    """A name that may wrap behind its dots, slashes and underscores rather than anywhere."""
    text = escape(name)
    for sign in "./_":
        text = text.replace(sign, Markup(f"{sign}<wbr>"))
    return text


def _raw(value: float | None) -> str:
    """What a column is sorted by, as JavaScript's Number reads it; empty for what was not measured."""
    if value is None or math.isnan(value):
        return ""
    return repr(value) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
