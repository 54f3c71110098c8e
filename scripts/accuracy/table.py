"""Which rows a table has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from scripts.accuracy.case import Bits, Case
from scripts.accuracy.methods import HYBRID, METHODS, NONUNIFORM, OURS, OURS_BEST, RIVALS, SIGMA
from tvm_rsq.config import SCHEMES

SYNTHETIC, STATISTICS, REAL = "retro-synthesis", "statistics", "real"
RIVAL_SOURCES = (SYNTHETIC, "gaussian", REAL)
WHERE_SOURCES_DIFFER = ("mse", OURS)
_QUICK_METHODS = ("min-max", "mse", "SQuant", HYBRID, OURS, NONUNIFORM)
_WITHOUT_IMAGES = ("DFQ", "SQuant", SIGMA)  # by their authors
# Methods that are in the table in more than the finest granularity.
_SCHEMES = {"mse": ("per_channel", "per_tensor"), HYBRID: ("hybrid",), OURS: SCHEMES, OURS_BEST: SCHEMES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What may be in a table: everything of these, and nothing else."""

    networks: Sequence[str]
    bits: Sequence[Bits]
    methods: Sequence[str]
    schemes: Sequence[str]
    sources: Sequence[str]
    seeds: Sequence[int]


def cross(choice: Choice) -> tuple[Case, ...]:
    """Every combination; one seed where nothing is random, and methods that have one granularity get that one."""
    found = []
    for network, bits, source, method in product(choice.networks, choice.bits, choice.sources, choice.methods):
        schemes = dict.fromkeys(scheme if scheme in METHODS[method].schemes else METHODS[method].schemes[0] for scheme in choice.schemes)
        found += [case for scheme in schemes for case in _seeds(choice, network, bits, method, scheme, source)]
    return tuple(dict.fromkeys(found))


def full(choice: Choice) -> tuple[Case, ...]:
    """What the page is made of: every method on our images, every source under two methods, and the rivals on three sources at W8A8."""
    wanted: list[Case] = []
    for network, bits in product(choice.networks, choice.bits):
        for method, scheme, source in _of_one_network(bits, choice):
            wanted += _seeds(choice, network, bits, method, scheme, source)
    return tuple(dict.fromkeys(wanted))


def quick(choice: Choice) -> tuple[Case, ...]:
    """A few methods on our images, and two controls."""
    few = [method for method in _QUICK_METHODS if method in choice.methods]
    wanted: list[Case] = []
    for network, bits in product(choice.networks, choice.bits):
        rows = [(method, scheme, SYNTHETIC) for method in _fit(few, bits) for scheme in _schemes(method, choice)]
        rows += [(OURS, "per_channel", source) for source in ("gaussian", REAL)]
        for method, scheme, source in _allowed(rows, choice):
            wanted += _seeds(choice, network, bits, method, scheme, source)
    return tuple(dict.fromkeys(wanted))


def _of_one_network(bits: Bits, choice: Choice) -> Iterator[tuple[str, str, str]]:
    fit = _fit(choice.methods, bits)
    own = [method for method in fit if method not in RIVALS]
    rows = [(method, scheme, SYNTHETIC) for method in own for scheme in _schemes(method, choice)]
    rows += [(method, "per_channel", source) for source in choice.sources for method in WHERE_SOURCES_DIFFER]
    rows += [(OURS, scheme, STATISTICS) for scheme in SCHEMES] + [(method, "per_channel", STATISTICS) for method in _WITHOUT_IMAGES]
    if bits.weights < 8:  # what synthetic images are worth where roundings are learned from them
        rows.append((OURS_BEST, "per_channel", REAL))
    rows += [(method, "per_channel", source) for method in fit if method in RIVALS and bits == (8, 8) for source in RIVAL_SOURCES]
    return _allowed(rows, choice)


def _allowed(rows: Iterable[tuple[str, str, str]], choice: Choice) -> Iterator[tuple[str, str, str]]:
    allowed = (choice.methods, choice.schemes, choice.sources)
    return (row for row in rows if all(value in values for value, values in zip(row, allowed, strict=True)))


def _fit(methods: Iterable[str], bits: Bits) -> list[str]:
    return [method for method in methods if bits.weights in METHODS[method].bits]


def _schemes(method: str, choice: Choice) -> list[str]:
    return [scheme for scheme in _SCHEMES.get(method, ("per_channel",)) if scheme in choice.schemes]


def _seeds(choice: Choice, network: str, bits: Bits, method: str, scheme: str, source: str) -> list[Case]:
    random = source != REAL or METHODS[method].seeded
    return [
        Case(
            network=network, weight_bits=bits.weights, activation_bits=bits.activations, method=method, scheme=scheme, source=source,
            seed=seed,
        )
        for seed in (choice.seeds if random else choice.seeds[:1])
    ]  # fmt: skip
