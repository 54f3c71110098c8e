"""What must hold of codebooks, and of bits that differ by layer."""

from __future__ import annotations

import math

from scripts.accuracy.case import Bits
from scripts.accuracy.claim import W4A8, W8A8, Check, Claim, Lines, measure, percent
from scripts.accuracy.methods import CODEBOOKS_EVEN, EVEN, MIXED, OURS
from scripts.accuracy.summary import Summary
from scripts.accuracy.traits import TRAITS

W6A8 = Bits(6, 8)


def closer(lines: Lines) -> Claim:
    """Codebooks against uniform grids of the same bits."""
    checks = [_closer(name, lines.get(name, W4A8, CODEBOOKS_EVEN), lines.get(name, W4A8, EVEN)) for name in TRAITS]
    text = "W4A8 with codebooks diverges less than on uniform grids, and answers better, all layers alike and nothing learned."
    return Claim(text=text, checks=tuple(checks))


def mixed(lines: Lines) -> Claim:
    """Bits that differ by layer against 4 and a share of 8."""
    checks = [_closer(name, lines.get(name, W4A8, MIXED), lines.get(name, W4A8, OURS)) for name in TRAITS]
    text = "Bits that differ by layer, with codebooks, diverge less than uniform 4 bits with a share of 8 of that size, and answer better."
    return Claim(text=text, checks=tuple(checks))


def six_bits(lines: Lines) -> Claim:
    """Six bits against eight."""
    checks = []
    for name in TRAITS:
        six, eight = lines.get(name, W6A8, CODEBOOKS_EVEN), lines.get(name, W8A8, OURS)
        if six is None or eight is None or not (a := measure(six)) or not (b := measure(eight)):
            checks.append(Check(about=name))
            continue
        noise = math.sqrt(b.value * (1 - b.value) / six.group.samples)
        what = "top-1" if six.top1 else "agreement"
        said = f"{what} {percent(a)} against {percent(b)}, standard error {100 * noise:.2f}"
        checks.append(Check(about=name, found=said, holds=a.value >= b.value - noise))
    text = "6-bit codebooks in every layer answer as 8 bits do, within the standard error of so many images."
    return Claim(text=text, checks=tuple(checks))


def _closer(about: str, ours: Summary | None, theirs: Summary | None) -> Check:
    if ours is None or theirs is None or not ours.kl or not theirs.kl or not (a := measure(ours)) or not (b := measure(theirs)):
        return Check(about=about)
    what = "top-1" if ours.top1 else "agreement"
    said = f"KL {ours.kl.value:.4f} against {theirs.kl.value:.4f}, {what} {percent(a)} against {percent(b)}"
    return Check(about=about, found=said, holds=ours.kl.value < theirs.kl.value and a.value > b.value)
