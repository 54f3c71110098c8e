"""What must hold below 8 bits."""

from __future__ import annotations

from itertools import product

from scripts.accuracy.claim import W4A4, W4A8, Check, Claim, Lines, drop_within, networks, percent
from scripts.accuracy.methods import CODEBOOKS_BEST, CODEBOOKS_EVEN, METHODS, MIXED_BEST, NONUNIFORM, OURS_BEST
from scripts.accuracy.table import REAL, SYNTHETIC
from scripts.accuracy.traits import TRAITS


def four_bit_weights(lines: Lines) -> Claim:
    """Top-1 at W4A8."""
    checks = []
    for name in networks(lambda t: t.labels):
        most = 0.02 if TRAITS[name].depthwise else 0.01
        methods = (OURS_BEST, CODEBOOKS_BEST, MIXED_BEST)
        checks += [drop_within(f"{name}, {method}", lines.get(name, W4A8, method), most) for method in methods]
    text = 'W4A8 from no data with effort="best" stays within a point of FP32, within two where layers are depthwise.'
    return Claim(text=text, checks=tuple(checks))


def four_bits(lines: Lines) -> Claim:
    """Top-1 at W4A4."""
    checks = [drop_within(name, lines.get(name, W4A4, OURS_BEST), 0.03) for name in networks(lambda t: t.residual and not t.depthwise)]
    return Claim(text='W4A4 from no data with effort="best" stays within three points of FP32 on residual networks.', checks=tuple(checks))


def near_real(lines: Lines) -> Claim:
    """Synthetic images against real ones."""
    checks = []
    for name in networks(lambda t: t.labels):
        for bits in (W4A8, W4A4):
            ours, real = lines.get(name, bits, OURS_BEST), lines.get(name, bits, OURS_BEST, source=REAL)
            about = f"{name}, {bits}"
            if ours is None or real is None or ours.top1 is None or real.top1 is None:
                checks.append(Check(about=about))
                continue
            ratio = ours.top1.value / max(real.top1.value, 1e-9)
            said = f"top-1 {percent(ours.top1)} against {percent(real.top1)} from {real.images} real images: {ratio:.1%}"
            checks.append(Check(about=about, found=said, holds=ratio >= 0.9))
    return Claim(text="Below 8 bits, no data reaches at least 90 % of what the same method reaches with real images.", checks=tuple(checks))


_BOOKS = (NONUNIFORM, CODEBOOKS_EVEN)
_ALIKE = [
    name for name, method in METHODS.items()
    if name not in _BOOKS and method.fields.get("eight_bit_share") == 0 and method.effort == "instant"
]  # fmt: skip


def nonuniform(lines: Lines) -> Claim:
    """Codebooks against uniform grids."""
    checks, remarks = [], []
    for name, method in product(networks(lambda t: t.labels), _BOOKS):
        schemes = [found for scheme in ("per_channel", "per_tensor") if (found := lines.get(name, W4A8, method, scheme)) and found.top1]
        uniform = [
            s for s in lines.all
            if (s.group.network, s.group.bits, s.group.source) == (name, W4A8, SYNTHETIC) and s.group.method in _ALIKE and s.top1
        ]  # fmt: skip
        if not schemes or not uniform:
            checks.append(Check(about=f"{name}, {method}"))
            continue
        theirs, ours = max(schemes, key=lambda s: s.top1.value), max(uniform, key=lambda s: s.top1.value)
        gain = theirs.top1.value - ours.top1.value
        said = f"top-1 {percent(theirs.top1)} against {percent(ours.top1)} of {ours.group.method}: {100 * gain:+.1f} points"
        checks.append(Check(about=f"{name}, {method}", found=said, holds=gain >= 0.01))
        if theirs.kl and ours.kl:
            remarks.append(f"{name}, {method}: KL {theirs.kl.value:.4f} against {ours.kl.value:.4f}")
    text = "Non-uniform 4-bit weights gain a point or more over the best uniform ones, without learned roundings."
    return Claim(text=text, checks=tuple(checks), remarks=tuple(remarks))
