"""What must hold, checked against the summaries, most of it at any bits; see claims_low_bits.py and claims_codebooks.py for the rest."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from scripts.accuracy.claim import ALL_BITS, W8A8, Check, Claim, Lines, at_least, at_most, better, measure, networks, percent, points
from scripts.accuracy.claims_codebooks import closer, mixed, six_bits
from scripts.accuracy.claims_low_bits import four_bit_weights, four_bits, near_real, nonuniform
from scripts.accuracy.methods import EVEN, HYBRID, OURS, OURS_BEST, RIVALS
from scripts.accuracy.summary import Summary
from scripts.accuracy.table import REAL, STATISTICS, SYNTHETIC, WHERE_SOURCES_DIFFER
from scripts.accuracy.traits import TRAITS, Traits

_RESNET18 = ("resnet18-cifar", "resnet18-random")
CONTROLS = ("gaussian", "uniform", STATISTICS)


def claims(summaries: Iterable[Summary]) -> tuple[Claim, ...]:
    """All of them, measured or not."""
    lines = Lines(summaries)
    return (
        _eight_bits(lines), _against_rivals(lines), _sources(lines), _dfq(lines), four_bit_weights(lines), four_bits(lines),
        near_real(lines), nonuniform(lines), closer(lines), mixed(lines), six_bits(lines), _cost(lines), _hybrid(lines),
    )  # fmt: skip


def _eight_bits(lines: Lines) -> Claim:
    checks = []
    for (name, traits), scheme, source in product(TRAITS.items(), ("hybrid", "per_channel"), (SYNTHETIC, STATISTICS)):
        found = lines.get(name, W8A8, OURS, scheme, source)
        most, least = _limits(traits)
        about = f"{name}, {scheme}, {source}"
        if found is None or found.agreement is None or (most is not None and found.drop is None):
            checks.append(Check(about=about))
            continue
        said, holds = [], True
        if most is not None:
            said.append(f"{points(found.drop)} below FP32 (at most {100 * most:.1f})")
            holds = at_most(found.drop, most)
        if least is not None:
            said.append(f"agreement {percent(found.agreement)} (at least {100 * least:.1f} %)")
            holds = holds and found.agreement.value >= least
        checks.append(Check(about=about, found=", ".join(said), holds=holds))
    return Claim(text="W8A8 from no data, as an integer library, answers as FP32 does.", checks=tuple(checks))


def _limits(traits: Traits) -> tuple[float | None, float | None]:
    """(the most that top-1 may be below FP32, the least agreement), 0..1; None where nothing is claimed."""
    if traits.cifar:
        return 0.002, None
    return (0.004 if traits.labels else None, 0.975) if traits.batch_norm else (None, 0.95)


def _against_rivals(lines: Lines) -> Claim:
    checks, remarks = [], []
    for name in networks(lambda t: t.labels and not t.cifar):
        ours = lines.get(name, W8A8, OURS, "hybrid") or lines.get(name, W8A8, OURS)
        for rival in RIVALS:
            theirs = lines.get(name, W8A8, rival, source=REAL)
            who = f"{rival} from {theirs.images} real images" if theirs else rival
            checks.append(better(f"{name}, {rival}", ours, theirs, who, by_agreement=True))
            with_ours, with_noise = (lines.get(name, W8A8, rival, source=source) for source in (SYNTHETIC, "gaussian"))
            if with_ours and with_noise and with_ours.agreement and with_noise.agreement:
                remarks.append(
                    f"{name}, {rival}: agreement {percent(with_ours.agreement)} with our images, {percent(with_noise.agreement)} with noise"
                )
    text = "From no data, the integer library is closer to FP32 than established tools that were given real images."
    return Claim(text=text, checks=tuple(checks), remarks=tuple(remarks))


def _sources(lines: Lines) -> Claim:
    checks, remarks = [], []
    for name, bits, method in product(TRAITS, ALL_BITS, WHERE_SOURCES_DIFFER):
        about = f"{name}, {bits}, {method}"
        ours = lines.get(name, bits, method)
        checks.append(better(about, ours, lines.get(name, bits, method, source="zeroq"), "ZeroQ's images"))
        for control in CONTROLS:
            other = lines.get(name, bits, method, source=control)
            if ours and other and (a := measure(ours)) and (b := measure(other)) and at_least(b, a):
                remarks.append(f"{about}: {control} does as well, {percent(b)} against {percent(a)}")
    text = "Retro-synthesis is at least as good a source as ZeroQ-style images, beyond the spread of seeds."
    return Claim(text=text, checks=tuple(checks), remarks=tuple(remarks))


def _dfq(lines: Lines) -> Claim:
    checks = []
    for name, bits, source in product(networks(lambda t: t.batch_norm), ALL_BITS, (SYNTHETIC, STATISTICS)):
        theirs = lines.get(name, bits, "DFQ", source=source)
        ours = lines.get(name, bits, EVEN if bits.weights < 8 else OURS)  # DFQ keeps no layer at 8 bits
        checks.append(better(f"{name}, {bits}", ours, theirs, f"DFQ with {source}"))
    return Claim(text="What retro-synthesis and the defaults make is at least as good as DFQ.", checks=tuple(checks))


def _cost(lines: Lines) -> Claim:
    checks = []
    # Without naming a source, "instant" takes statistics where the version has them.
    for name, (method, sources, most) in product(_RESNET18, ((OURS, (STATISTICS, SYNTHETIC), 30.0), (OURS_BEST, (SYNTHETIC,), 900.0))):
        found = [s for s in lines.all if (s.group.network, s.group.method) == (name, method) and s.seconds and not s.elsewhere]
        source = next((source for source in sources if any(s.group.source == source for s in found)), None)
        of = [s for s in found if s.group.source == source]
        if not of:
            checks.append(Check(about=f"{name}, {method}"))
            continue
        worst = max(of, key=lambda s: s.seconds)
        said = f"{worst.seconds:.0f} s ({worst.group.bits}, {worst.group.scheme}, {worst.group.source}; at most {most:.0f})"
        checks.append(Check(about=f"{name}, {method}", found=said, holds=worst.seconds <= most))
    own = [s for s in lines.all if s.peak_bytes and s.group.method not in RIVALS]
    if own:
        worst = max(own, key=lambda s: s.peak_bytes)
        said = f"{worst.peak_bytes / 1e9:.2f} GB at most ({worst.group.network}, {worst.group.bits}, {worst.group.method})"
        checks.append(Check(about="memory", found=said, holds=worst.peak_bytes < 6e9))
    else:
        checks.append(Check(about="memory"))
    threads = sorted({count for s in lines.all for count in s.threads})
    remarks = (f"seconds are those of {' or '.join(map(str, threads))} thread(s)",) if threads else ()
    text = "A network of ResNet-18's size takes under 30 seconds (instant), under 15 minutes (best), and less than 6 GB."
    return Claim(text=text, checks=tuple(checks), remarks=remarks)


def _hybrid(lines: Lines) -> Claim:
    checks = []
    for name in TRAITS:
        for bits in ALL_BITS:
            for source in (SYNTHETIC, STATISTICS):
                ours, other = lines.get(name, bits, OURS, "hybrid", source), lines.get(name, bits, OURS, source=source)
                checks.append(better(f"{name}, {bits}, {source}", ours, other, "all per channel"))
    remarks = []
    for name in TRAITS:
        seed, plain = lines.get(name, W8A8, HYBRID, "hybrid"), lines.get(name, W8A8, "mse")
        if seed and plain and (a := measure(seed)) and (b := measure(plain)):
            remarks.append(f"{name}, W8A8, by granularity alone without anything else: {percent(a)} against {percent(b)} per channel")
    return Claim(text="Hybrid is as accurate as all per channel at the default budget.", checks=tuple(checks), remarks=tuple(remarks))
