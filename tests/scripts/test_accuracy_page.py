"""scripts/accuracy: the page shows every row, and claims stand or fall by the numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.accuracy.claims import claims
from scripts.accuracy.markdown import page
from scripts.accuracy.methods import CODEBOOKS_EVEN, EVEN, MIXED, NONUNIFORM
from scripts.accuracy.row import FAKE_QUANT, Row
from scripts.accuracy.summary import summarize
from tests.scripts.accuracy_rows import row

MACHINE = {"cores": 2, "versions": {"torch": "2.13"}}
FACTS = {"command": "scripts/reproduce_accuracy --seeds 1", "date": "2026-11-26", "machine": MACHINE}
TEXTS = {
    "eight bits": "W8A8 from no data", "rivals": "From no data, the integer library", "sources": "Retro-synthesis is", "dfq": "What retro",
    "W4A8": "W4A8 from", "W4A4": "W4A4 from", "real": "Below 8 bits",
    "non-uniform": "Non-uniform", "closer": "W4A8 with codebooks", "mixed": "Bits that differ",
    "six bits": "6-bit codebooks", "cost": "A network of", "hybrid": "Hybrid",
}  # fmt: skip


def verdict(name: str, *rows: Row) -> str:
    (claim,) = [claim for claim in claims(summarize(rows)) if claim.text.startswith(TEXTS[name])]
    return claim.verdict


def both(bits: str, better: float, worse: float, **other: str) -> tuple[Row, Row]:
    return row(bits=bits, top1=better), row(bits=bits, top1=worse, **other)


def test_nothing_is_claimed_without_rows() -> None:
    assert [claim.verdict for claim in claims([])] == ["not measured"] * len(TEXTS)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("eight bits", [row(top1=0.9235)], [row(top1=0.9225)]),  # FP32 has 92.5
        ("eight bits", [row("resnet50", top1=0.922, agreement=0.976)], [row("resnet50", top1=0.922, agreement=0.974)]),
        ("eight bits", [row("resnet50", top1_fp32=0.926, top1=0.922, agreement=0.98)], [row("resnet50", top1=0.9205, agreement=0.98)]),
        ("eight bits", [row("resnet50", top1=0.9215, agreement=0.98)], [row("resnet50", top1=0.9205, agreement=0.98)]),
        ("eight bits", [row("squeezenet1.1", top1=0.9, agreement=0.951)], [row("squeezenet1.1", top1=0.925, agreement=0.949)]),
        ("rivals", [row("resnet50", agreement=0.98), row("resnet50", method="NNCF", source="real", agreement=0.97)],
         [row("resnet50", agreement=0.96), row("resnet50", method="NNCF", source="real", agreement=0.97)]),
        ("sources", both("W4A8", 0.91, 0.90, source="zeroq"), both("W4A8", 0.90, 0.91, source="zeroq")),
        ("dfq", both("W8A8", 0.91, 0.90, method="DFQ"), both("W8A8", 0.90, 0.91, method="DFQ")),
        ("dfq", [row(bits="W6A6", method=EVEN, top1=0.91), row(bits="W6A6", method="DFQ", top1=0.9)],
         [row(bits="W6A6", method=EVEN, top1=0.89), row(bits="W6A6", method="DFQ", top1=0.9), row(bits="W6A6", top1=0.92)]),
        ("rivals", [row("resnet50", agreement=0.98), row("resnet50", method="ONNX Runtime", source="real", agreement=0.97)],
         [row("resnet50", agreement=0.96), row("resnet50", method="ONNX Runtime", source="real", agreement=0.97)]),
        ("W4A8", [row(bits="W4A8", method="ours, best", top1=0.916)], [row(bits="W4A8", method="ours, best", top1=0.914)]),
        ("W4A8", [row("mobilenetv2", "W4A8", "ours, best", top1=0.906)], [row("mobilenetv2", "W4A8", "ours, best", top1=0.904)]),
        ("W4A4", [row(bits="W4A4", method="ours, best", top1=0.896)], [row(bits="W4A4", method="ours, best", top1=0.894)]),
        ("real", [row(bits="W4A4", method="ours, best", top1=0.82), row(bits="W4A4", method="ours, best", source="real", top1=0.9)],
         [row(bits="W4A4", method="ours, best", top1=0.80), row(bits="W4A4", method="ours, best", source="real", top1=0.9)]),
        ("closer", [row(bits="W4A8", method=m, top1=t, kl=kl) for m, t, kl in ((EVEN, 0.89, 0.2), (CODEBOOKS_EVEN, 0.9, 0.1))],
         [row(bits="W4A8", method=m, top1=t, kl=kl) for m, t, kl in ((EVEN, 0.89, 0.1), (CODEBOOKS_EVEN, 0.9, 0.2))]),
        ("closer", [row(bits="W4A8", method=m, top1=t, kl=kl) for m, t, kl in ((EVEN, 0.89, 0.2), (CODEBOOKS_EVEN, 0.9, 0.1))],
         [row(bits="W4A8", method=m, top1=t, kl=kl) for m, t, kl in ((EVEN, 0.9, 0.2), (CODEBOOKS_EVEN, 0.89, 0.1))]),
        ("mixed", [row(bits="W4A8", method=m, top1=t, kl=kl) for m, t, kl in (("ours", 0.89, 0.2), (MIXED, 0.9, 0.1))],
         [row(bits="W4A8", method=m, top1=t, kl=kl) for m, t, kl in (("ours", 0.89, 0.1), (MIXED, 0.9, 0.2))]),
        ("six bits", [row(bits="W6A8", method=CODEBOOKS_EVEN, top1=0.908), row(top1=0.91)],
         [row(bits="W6A8", method=CODEBOOKS_EVEN, top1=0.906), row(top1=0.91)]),
        ("non-uniform", [row(bits="W4A8", method=m, top1=t) for m, t in ((EVEN, 0.89), (NONUNIFORM, 0.905), ("ours", 0.92))],
         [row(bits="W4A8", method=m, top1=t) for m, t in ((EVEN, 0.9), (NONUNIFORM, 0.905))]),
        ("cost", [row("resnet18-cifar", synthesis_s=24.0)], [row("resnet18-cifar", synthesis_s=26.0)]),
        ("cost", [row(peak_bytes=5 * 10**9)], [row(peak_bytes=7 * 10**9)]),
        ("hybrid", both("W4A8", 0.90, 0.90, scheme="hybrid"), both("W4A8", 0.90, 0.899, scheme="hybrid")),
        ("hybrid", [row(source="statistics"), row(source="statistics", scheme="hybrid")],
         [row(source="statistics", top1=0.9), row(source="statistics", scheme="hybrid", top1=0.89)]),
    ],
)  # fmt: skip
def test_a_claim_stands_or_falls_by_the_numbers(name: str, good: list[Row], bad: list[Row]) -> None:
    assert (verdict(name, *good), verdict(name, *bad)) == ("holds", "does not hold")


def test_one_network_that_fails_is_enough() -> None:
    assert verdict("eight bits", row(), row("cnn-cifar", top1=0.925)) == "does not hold"


def test_of_several_sets_of_images_the_largest_counts() -> None:
    small = replace(row(top1=0.5), evaluated=replace(row().evaluated, samples=10))
    assert verdict("eight bits", row(top1=0.9235), small) == verdict("eight bits", small, row(top1=0.9235)) == "holds"


def test_the_spread_of_seeds_is_no_loss() -> None:
    spread = [row(bits="W4A8", seed=seed, top1=top1) for seed, top1 in enumerate((0.89, 0.90, 0.91))]
    assert verdict("sources", *spread, row(bits="W4A8", source="zeroq", top1=0.909)) == "holds"
    assert verdict("sources", *spread, row(bits="W4A8", source="zeroq", top1=0.911)) == "does not hold"


def test_seconds_of_images_from_another_machine_are_no_evidence() -> None:
    (claim,) = [c for c in claims(summarize([row("resnet18-cifar", synthesis_cpu="other")])) if c.text.startswith(TEXTS["cost"])]
    assert [check.holds for check in claim.checks if check.about.startswith("resnet18-cifar")] == [None, None]


def test_instant_is_judged_by_its_own_source_where_there_is_one() -> None:
    slow = row("resnet18-cifar", synthesis_s=99.0)
    assert verdict("cost", slow) == "does not hold"
    assert verdict("cost", slow, row("resnet18-cifar", source="statistics", synthesis_s=9.0)) == "holds"


def test_a_control_that_does_as_well_is_named() -> None:
    text = page(FACTS, [row(top1=0.92), row(top1=0.92, source="gaussian"), row(top1=0.91, source="uniform")])
    assert "resnet20-cifar, W8A8, ours: gaussian does as well, 92.00 % against 92.00 %" in text and "uniform does as well" not in text


def test_the_page_shows_every_row_and_how_it_was_made() -> None:
    rows = [row(seed=seed, top1=0.92 + seed / 1000) for seed in range(3)]
    rows += [row(bits="W4A8", method="non-uniform, seed", evaluated_as=FAKE_QUANT, float_layers=2), row(method="DFQ", unsupported="no BN")]
    rows.append(row("pplcnet-orientation", top1=None))
    lines = page(FACTS, rows).splitlines()
    assert lines[0] == "# Accuracy without data, measured" and ".venv/bin/python scripts/reproduce_accuracy --seeds 1" in lines
    assert "| ours | per channel | retro-synthesis | 92.10 ± 0.10 | 0.40 ± 0.10 | 99.00 ± 0.00 | 0.0010 ± 0.0000 | 16 | 10 + 5 |" in lines
    name = "non-uniform, seed; fake-quant; 2 layers in float"
    assert f"| {name} | per channel | retro-synthesis | 92.00 | 0.50 | 99.00 | 0.0010 | 16 | 10 + 5 |" in lines
    assert "- no DFQ, per_channel, retro-synthesis: no BN" in lines
    assert "| ours | per channel | retro-synthesis | - | - | 99.00 | 0.0010 | 16 | 10 + 5 |" in lines
    assert [line for line in lines if line.startswith("## ")] == ["## resnet20-cifar", "## pplcnet-orientation", "## What must hold"]
    assert any("seeds 0, 1, 2, commit 0b95e53; some CPU, rows on 2 of 2 cores; torch 2.13." in line for line in lines)
