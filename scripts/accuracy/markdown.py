"""The page: rows as tables, network by network, and what must hold. Wholly from a result of `scripts/reproduce_accuracy --json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scripts.accuracy.claim import Claim, percent, points
from scripts.accuracy.claims import claims
from scripts.accuracy.methods import CODEBOOKS_EVEN, EVEN, EVEN_BEST, MIXED, MIXED_BEST
from scripts.accuracy.row import FAKE_QUANT, Row
from scripts.accuracy.summary import Mean, Summary, summarize

_NONE = "-"
_COLUMNS = ("method", "granularity", "data", "top-1, %", "below FP32", "agreement, %", "KL", "images", "seconds")


def page(facts: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Markdown.   facts: "command" (of several, one a line), "date", "machine" """
    summaries = summarize(rows)
    lines = _head(facts, rows)
    for network in dict.fromkeys(s.group.network for s in summaries):
        lines += _network(network, [s for s in summaries if s.group.network == network])
    return "\n".join([*lines, *_claims(claims(summaries))]).rstrip() + "\n"


def _head(facts: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    machine = facts.get("machine", {})
    versions = ", ".join(f"{name} {version}" for name, version in machine.get("versions", {}).items() if version)
    seeds = sorted({row.case.seed for row in rows})
    known = [row for row in rows if not row.unsupported]
    cpus, threads, commits = (_listed(getattr(row, name) for row in known) for name in ("cpu", "threads", "commit"))
    return [
        "# Accuracy without data, measured",
        "",
        "Made by",
        "",
        "<!-- not run: hours: every row of the page -->",
        "```bash",
        *(f".venv/bin/python {command}" for command in str(facts.get("command")).split("\n")),
        "```",
        "",
        f"- {facts.get('date', 'no date')}, seeds {_listed(seeds)}, commit {commits}; {cpus}, rows on {threads} of "
        f"{machine.get('cores', '?')} cores; {versions or 'no versions'}.",
        "- Every row of ours is the integer library, compiled and run on all images, unless it says fake-quant; nothing is in float",
        "  unless it says so. A rival's row is its own runtime.",
        "- Top-1, agreement with FP32 and KL(FP32 || quantized) in nats are means over seeds, ± the standard deviation of three and more,",
        "  the difference of two. Points below FP32 are of the same images. No figure here is an accuracy on ImageNet.",
        "- The standard error of top-1 from n images alone is sqrt(p (1 - p) / n): 1.4 points at 90 % of 500, 0.3 of 10,000.",
        "- Seconds are those of the images, and of quantizing, on the cores named above; * where another machine or a GPU made the images",
        "  or learned from them.",
        "- Data: images made from the network alone (retro-synthesis, zeroq, generator), drawn images whose values are set right at every",
        "  layer (statistics: effort instant), noise (gaussian, uniform), or real images, which are none of those evaluated.",
        "- Below 8 bits, methods that are called 'ours' keep layers with 5 % of the weights at 8 bits, 4.2 bits a weight where others",
        f"  have 4; {MIXED!r} and {MIXED_BEST!r} have as many in the mean, 3, 4, 6 or 8 a layer; {EVEN!r}, {EVEN_BEST!r},",
        f"  {CODEBOOKS_EVEN!r} and all other methods keep none.",
        "",
    ]


def _claims(found: Iterable[Claim]) -> list[str]:
    lines = ["## What must hold", ""]
    for claim in found:
        missing = len(claim.checks) - claim.measured
        rest = f" where measured ({claim.measured} of {len(claim.checks)})" if missing and claim.measured else ""
        lines += [f"**{claim.text}** {claim.verdict.capitalize()}{rest}.", ""]
        for check in claim.checks:
            if check.holds is not None:
                lines.append(f"- {check.about}: {check.found}: {'holds' if check.holds else 'does not hold'}")
        lines += [f"- {remark}" for remark in claim.remarks]
        if lines[-1]:
            lines.append("")
    return lines


def _network(name: str, summaries: Sequence[Summary]) -> list[str]:
    first = next((s for s in summaries if not s.unsupported), None)
    if first is None:
        return [f"## {name}", "", *_refused(summaries), ""]
    fp32 = "no labels" if first.top1_fp32 is None else f"FP32 top-1 {100 * first.top1_fp32:.2f} %"
    lines = [f"## {name}", "", f"{fp32}; {first.group.labelled}, {first.group.samples} images.", ""]
    for bits in dict.fromkeys(s.group.bits for s in summaries):
        these = [s for s in summaries if s.group.bits == bits]
        lines += [f"### {name}, {bits}", ""]
        if done := [s for s in these if not s.unsupported]:
            lines += [_row(_COLUMNS), "|" + "---|" * len(_COLUMNS), *(_row(_cells(s)) for s in done), ""]
        lines += _refused(these)
    return lines


def _refused(summaries: Sequence[Summary]) -> list[str]:
    lines = [f"- no {s.group.method}, {s.group.scheme}, {s.group.source}: {s.unsupported}" for s in summaries if s.unsupported]
    return [*lines, ""] if lines else []


def _cells(found: Summary) -> tuple[str, ...]:
    said = [found.group.method]
    if found.evaluated_as == FAKE_QUANT:
        said.append(FAKE_QUANT)
    if found.float_layers:
        said.append(f"{found.float_layers} layers in float")
    if found.float_operators:
        said.append(f"{found.float_operators} other operators in float")
    return (
        "; ".join(said), found.group.scheme.replace("_", " "), found.group.source, _percent(found.top1),
        _NONE if found.drop is None else points(found.drop), _percent(found.agreement), _kl(found.kl),
        _NONE if found.images is None else str(found.images), _seconds(found),
    )  # fmt: skip


def _seconds(found: Summary) -> str:
    parts = [_NONE if value is None else f"{value:.0f}" for value in (found.synthesis_s, found.quantization_s)]
    return " + ".join(parts) + "*" * found.elsewhere


def _percent(found: Mean | None) -> str:
    return _NONE if found is None else percent(found).replace(" %", "")


def _kl(found: Mean | None) -> str:
    if found is None:
        return _NONE
    return f"{found.value:.4f}" + ("" if found.spread is None else f" ± {found.spread:.4f}")


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values))) or _NONE
