"""scripts/accuracy: which rows a table has, and how the command line narrows it."""

from __future__ import annotations

from collections import Counter

import pytest

from scripts.accuracy.calibrations import SOURCES
from scripts.accuracy.case import Bits, Case
from scripts.accuracy.methods import METHODS, PLAIN, RIVALS
from scripts.accuracy.options import cases, parse
from scripts.accuracy.table import RIVAL_SOURCES
from tvm_rsq.errors import ConfigError


def of(*arguments: str) -> tuple[Case, ...]:
    return cases(parse(arguments))


def test_bits_are_read_and_written() -> None:
    assert Bits.parse("w4a8") == Bits(4, 8) and str(Bits(6, 6)) == "W6A6"
    with pytest.raises(ValueError, match="got 'W8', expected weight and activation bits such as W8A8"):
        Bits.parse("W8")


def test_every_method_is_a_configuration_of_its_own() -> None:
    found = {}
    for name, method in METHODS.items():
        if method.kind == "ours":
            found[name] = method.config(Bits(4, 8), method.schemes[0], seed=3)
            assert found[name].seed == 3 and (found[name].average_bits == 4.2 if method.mixed else found[name].weight_bits == 4)
    assert len({repr(config) for config in found.values()}) == len(found)
    assert found["AdaRound"].weight_range == "mse" and METHODS["AdaRound"].config(Bits(8, 8), "per_channel", 0).weight_range == "min_max"
    assert all("auto" not in str(value) for value in PLAIN.values())
    with pytest.raises(ConfigError, match="weight_bits is 5"):
        METHODS["mse"].config(Bits(5, 8), "per_channel", 0)


def test_the_full_table_of_one_network() -> None:
    found = of("--table", "full", "--networks", "resnet18-cifar")
    assert len(found) == len(set(found))
    seeds = Counter((c.bits, c.method, c.scheme, c.source) for c in found)
    for bits in (Bits(8, 8), Bits(6, 6), Bits(4, 8), Bits(4, 4)):
        for method, recipe in METHODS.items():
            expected = 3 if bits.weights in recipe.bits and (method not in RIVALS or bits == (8, 8)) else 0
            assert seeds[bits, method, recipe.schemes[0] if method == "hybrid, seed" else "per_channel", "retro-synthesis"] == expected
        if "statistics" in SOURCES:
            assert seeds[bits, "ours", "hybrid", "statistics"] == seeds[bits, "DFQ", "per_channel", "statistics"] == 3
        for source in SOURCES:
            assert seeds[bits, "mse", "per_channel", source] == seeds[bits, "ours", "per_channel", source] == (1 if source == "real" else 3)
        assert seeds[bits, "ours", "hybrid", "retro-synthesis"] == 3
        assert seeds[bits, "ours, best", "per_channel", "real"] == (3 if bits.weights < 8 else 0)  # its roundings have a seed
    assert {c.source for c in found if c.method in RIVALS} == set(RIVAL_SOURCES)
    assert "auto" not in SOURCES
    assert not any(c.source not in ("retro-synthesis", "real") for c in found if c.method == "AdaRound")


def test_options_narrow_a_table() -> None:
    found = of("--table", "full", "--networks", "resnet18-cifar", "--bits", "W8A8", "--methods", "mse,ours, best", "--seeds", "5")
    assert {(c.seed, str(c.bits)) for c in found} == {(5, "W8A8")} and {c.method for c in found} == {"mse", "ours, best"}
    assert not of("--table", "full", "--networks", "resnet18-cifar", "--methods", "NNCF", "--bits", "W4A8")
    assert {c.scheme for c in of("--table", "full", "--networks", "cnn-cifar", "--schemes", "hybrid")} == {"hybrid"}


def test_the_quick_table_is_small() -> None:
    options = parse(["--table", "quick"])
    found = cases(options)
    assert options.samples == 1000 and {c.network for c in found} == {"resnet20-cifar"} and {c.seed for c in found} == {0}
    assert {str(c.bits) for c in found} == {"W8A8", "W4A8"} and len(found) <= 30
    assert {c.source for c in found} == {"retro-synthesis", "gaussian", "real"}


def test_without_a_table_there_is_every_combination() -> None:
    found = of("--networks", "cnn-cifar,resnet50", "--methods", "min-max,hybrid, seed,kl",
               "--sources", "gaussian,real", "--seeds", "1,2", "--schemes", "per_channel,per_tensor")  # fmt: skip
    # two networks, (two methods at two granularities, one at its own), (two seeds of noise, one of real images)
    assert len(found) == 2 * (2 * 2 + 1) * (2 + 1)
    assert {c.scheme for c in found if c.method == "hybrid, seed"} == {"hybrid"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bits", "W5A8"], "got W5A8, expected bits of"),
        (["--bits", "8"], "got '8', expected weight and activation bits"),
        (["--methods", "mse,best"], "unknown 'best'; choose from min-max; percentile"),
        (["--seeds", "-1"], "got '-1', expected whole numbers"),
        (["--samples", "0"], "got '0', expected a whole number of at least 1"),
        (["--show", "x.json", "--table", "quick"], "--show measures nothing"),
    ],
)
def test_wrong_usage_is_told_in_a_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(arguments)
    assert said in capsys.readouterr().err.splitlines()[-1]
