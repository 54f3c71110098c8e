"""Bits that differ by layer: the best grids within a size or a divergence, what the user says first, and the library that comes of it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tvm_rsq
from tests.integer_case import check, quantized
from tests.test_choose_codebooks import network
from tvm_rsq.errors import ConfigError
from tvm_rsq.layer_record import GridTrial
from tvm_rsq.mixed_bits import costs, within_divergence, within_size
from tvm_rsq.plan import QuantPlan

SHAPE = [(2, 3, 12, 12)]


def trial(bits: int, size: int, nmse: float, kl: float, codebook: bool = False) -> GridTrial:
    return GridTrial(bits=bits, codebook=codebook, weight_nmse=nmse, weight_bytes=size, kl=kl)


def ladder(weights: int, factor: float) -> tuple[GridTrial, ...]:
    """As theory has it: a quarter of the error a bit, a divergence in proportion."""
    return tuple(trial(bits, weights * bits // 8, 4.0**-bits, factor * 4.0**-bits) for bits in (3, 4, 6, 8))


LADDERS = st.lists(st.tuples(st.integers(1, 40), st.floats(0.01, 100)), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(LADDERS, st.floats(3, 8))
def test_no_other_grids_of_that_size_cost_less(layers, average):
    trials = {f"l{i}": ladder(8 * weights, factor) for i, (weights, factor) in enumerate(layers)}
    sizes = {f"l{i}": 8 * weights for i, (weights, _) in enumerate(layers)}
    chosen, cost = within_size(trials, sizes, average), costs(trials)
    room = sum(math.ceil(average * size / 8) for size in sizes.values())
    assert list(chosen) == list(trials) and sum(t.weight_bytes for t in chosen.values()) <= room + 1e-6
    spent = sum(cost[name][trials[name].index(t)] for name, t in chosen.items())
    best = min(
        sum(cost[name][i] for name, i in zip(trials, picks, strict=True))
        for picks in itertools.product(range(4), repeat=len(trials))
        if sum(trials[name][i].weight_bytes for name, i in zip(trials, picks, strict=True)) <= room
    )
    assert spent <= best * 1.001 + 1e-12


@settings(max_examples=40, deadline=None)
@given(LADDERS, st.floats(1e-6, 1))
def test_the_network_stays_within_the_divergence_if_it_can(layers, most):
    trials = {f"l{i}": ladder(8 * weights, factor) for i, (weights, factor) in enumerate(layers)}
    chosen, reached = within_divergence(trials, most, lambda grids: sum(grid.kl for grid in grids.values()))
    least = sum(found[-1].kl for found in trials.values())
    assert reached == pytest.approx(sum(grid.kl for grid in chosen.values()))
    assert reached <= most or (least > most and all(grid.bits == 8 for grid in chosen.values()))


def test_a_looser_divergence_takes_fewer_bytes():
    trials = {f"l{i}": ladder(64 * (i + 1), 10.0 ** (i - 2)) for i in range(5)}

    def size(most: float) -> int:
        chosen, _ = within_divergence(trials, most, lambda grids: sum(grid.kl for grid in grids.values()))
        return sum(grid.weight_bytes for grid in chosen.values())

    found = [size(most) for most in (1e-5, 1e-3, 1e-1, 10)]
    assert found == sorted(found, reverse=True) and found[0] > found[-1] == sum(t[0].weight_bytes for t in trials.values())


def test_a_cost_is_the_error_times_the_median_of_what_errors_were_measured_to_cost():
    grids = (trial(3, 3, 0.4, 4.0), trial(4, 4, 0.1, 3.0), trial(6, 6, 0.01, 0.2), trial(8, 8, 0.001, 9.0))  # 10, 30, 20 nats each
    np.testing.assert_allclose(costs({"a": grids})["a"], [8.0, 2.0, 0.2, 0.02])


def test_layers_that_change_nothing_on_this_data_keep_what_room_there_is():
    quiet = tuple(trial(bits, bits, 4.0**-bits, 0.0) for bits in (3, 4, 6, 8))
    for trials in ({"a": quiet, "b": ladder(8, 1.0)}, {"a": quiet}):
        assert {t.bits for t in within_size(trials, dict.fromkeys(trials, 8), 8.0).values()} == {8}
    assert within_size({"a": quiet, "b": ladder(8, 1.0)}, {"a": 8, "b": 8}, 6.0)["b"].bits == 8


def test_what_is_no_number_is_not_taken():
    broken = (trial(3, 3, 0.4, math.inf), trial(4, 4, 0.1, math.nan), trial(8, 8, 0.001, 0.1))
    assert within_size({"a": broken}, {"a": 8}, 8.0)["a"].bits == 8
    never = (trial(3, 3, 0.4, math.inf), trial(8, 8, 0.001, math.inf))
    assert within_size({"a": never, "b": ladder(8, 1.0)}, {"a": 8, "b": 8}, 8.0)["a"].bits == 8
    exact = (trial(3, 3, 0.0, 0.0), trial(8, 8, 0.0, 0.0))
    assert within_size({"a": exact}, {"a": 8}, 3.0)["a"].bits == 3


def test_the_least_size_is_of_grids_whose_output_is_a_number():
    broken = (trial(4, 4, 0.1, math.nan), trial(8, 8, 0.001, 0.1))
    with pytest.raises(ConfigError, match="average_bits is 5, and these layers have 9.143 at least"):
        within_size({"a": broken}, {"a": 7}, 5.0)
    whole_bytes = (trial(3, 3751, 0.1, 0.1), trial(8, 10001, 0.001, 0.1))
    assert within_size({"a": whole_bytes}, {"a": 10001}, 3.0)["a"].bits == 3


def test_a_size_below_the_least():
    with pytest.raises(ConfigError, match=r"average_bits is 3, and these layers have 8 at least"):
        within_size({"a": (trial(8, 8, 0.1, 0.1),)}, {"a": 8}, 3.0)


def made(**fields) -> tvm_rsq.QuantizedModel:
    return quantized(network(), SHAPE, tvm_rsq.QuantConfig(**{"scheme": "per_channel", **fields}))


@pytest.mark.parametrize("nonuniform", [False, True])
@pytest.mark.parametrize("average", [3.6, 5.0, 8.0])
def test_the_library_computes_what_was_decided_and_is_as_small_as_was_asked(average, nonuniform):
    found = made(average_bits=average, nonuniform=nonuniform)
    layers = found.plan.layers
    weights = {name: found.model.params[name].size for name in (layer.name for layer in layers)}
    books = sum(2**layer.weight_bits * len(layer.codebook) for layer in layers)
    assert sum(layer.weight_bytes for layer in layers) + books <= average / 8 * sum(weights.values()) + len(layers)
    assert len({layer.weight_bits for layer in layers}) > 1 or average == 8.0
    assert nonuniform or not any(layer.codebook for layer in layers)
    check(found, "haswell" if average == 5.0 else "llvm")


def test_the_plan_holds_every_grid_that_was_tried():
    plan = made(average_bits=5.0, nonuniform=True).plan
    for layer in plan.layers:
        assert [(t.bits, t.codebook) for t in layer.grids] == [(bits, book) for bits in (3, 4, 6) for book in (False, True)] + [(8, False)]
        taken = next(t for t in layer.grids if (t.bits, t.codebook) == (layer.weight_bits, bool(layer.codebook)))
        assert layer.weight_nmse == pytest.approx(taken.weight_nmse) and f"{layer.weight_bits} bits" in layer.reason
        assert all(t.kl >= 0 and t.weight_bytes > 0 for t in layer.grids)
        errors = [t.weight_nmse for t in layer.grids if t.codebook]
        assert errors == sorted(errors, reverse=True)
    assert QuantPlan.from_json(plan.to_json()) == plan and plan.provenance["average_bits"] == 5.0


def test_within_a_divergence_of_the_whole_network():
    loose, tight = (made(most_divergence=most).plan for most in (0.3, 0.003))
    size = [sum(layer.weight_bytes for layer in plan.layers) for plan in (loose, tight)]
    assert size[0] < size[1]
    out_of_reach = made(most_divergence=1e-9).plan
    assert {layer.weight_bits for layer in out_of_reach.layers} == {8}
    assert any("most_divergence 1e-09 nats is not reached" in note for note in out_of_reach.notes)


def test_the_users_word_comes_first():
    word = {"a.weight": "weight_bits=8", "c.weight": "grid=codebook,weight_bits=4", "d.weight": "grid=uniform", "e.weight": "float"}
    plan = made(average_bits=5.0, nonuniform=True, overrides=word).plan
    a, c, d, e = (plan.layer(f"{name}.weight") for name in "acde")
    assert a.weight_bits == 8 and (c.weight_bits, len(c.codebook)) == (4, 1) and not d.codebook and e.scheme == "float"
    assert [t.codebook for t in d.grids] == [False] * 4 and len(c.grids) == 1


def test_levels_of_a_float_layer_are_the_users_word_too():
    plan = made(average_bits=5.0, overrides={"e.weight": "float,grid=codebook,weight_bits=4"}).plan
    layer = plan.layer("e.weight")
    assert (layer.scheme, layer.weight_bits, len(layer.codebook)) == ("float", 4, 1) and "codebook by override" in layer.reason
    with pytest.raises(ConfigError, match="codebook of 8 bits"):
        made(average_bits=5.0, overrides={"e.weight": "float,grid=codebook"})


@pytest.mark.parametrize("fields", [{"codebook_channels": 8}, {"scheme": "hybrid", "levers": "none"}])
def test_with_other_freedoms(fields):
    found = made(average_bits=3.6, nonuniform=True, **fields)
    assert any(layer.codebook for layer in found.plan.layers)
    check(found)


def test_the_same_seed_gives_the_same_plan():
    first, second = (made(average_bits=4.5, nonuniform=True).plan.to_json() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"average_bits": 2.0}, "average_bits is 2.0"),
        ({"average_bits": "few"}, "average_bits is 'few'"),
        ({"most_divergence": 0.0}, "most_divergence is 0.0"),
        ({"average_bits": 4.0, "most_divergence": 0.1}, "both given"),
        ({"average_bits": 4.0, "weight_bits": 4}, "weight_bits=4 with average_bits or most_divergence"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, says):
    with pytest.raises(ConfigError, match=says):
        tvm_rsq.QuantConfig(**fields)


def test_overrides_that_leave_no_room():
    with pytest.raises(ConfigError, match="average_bits is 4, and these layers have 8 at least"):
        made(average_bits=4.0, overrides={"*": "weight_bits=8"})
