"""The integer program against trying everything, and what it may never do."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_rsq.candidates import in_step, worthwhile
from tvm_rsq.choose_candidates import Option, SharedChain, choose_candidates
from tvm_rsq.errors import ConfigError
from tvm_rsq.layer_facts import Candidate
from tvm_rsq.shared_scales import Chain

PLAIN = Candidate(scheme="per_channel")
SHIFT = Candidate(scheme="per_channel", requantize="shift")
TENSOR = Candidate(scheme="per_tensor")


def option(time_us: float, excess: float = 0.0, shared: bool | None = None, candidate: Candidate = SHIFT) -> Option:
    return Option(candidate=candidate, time_us=time_us, excess=excess, shared=shared)


@st.composite
def problems(draw):
    """Three layers, of which two are in a chain."""
    price = st.integers(0, 20).map(lambda n: n / 4)
    options = {}
    for i in range(3):
        variants = (None,) if i == 0 else (False, True)
        found = [option(draw(st.integers(5, 30)), draw(price), shared) for shared in variants for _ in range(draw(st.integers(1, 3)))]
        options[f"layer{i}"] = [option(20.0, 0.0, variants[0], PLAIN), *found]
    chain = SharedChain(chain=Chain(tensors=("t",), layers=("layer1", "layer2")), excess=draw(price))
    return options, [chain], draw(price)


def by_trying(options, chains, nats) -> float:
    best = math.inf
    for shared in (False, True):
        for taken in itertools.product(*options.values()):
            spent = sum(o.excess for o in taken) + shared * chains[0].excess
            if spent <= nats and all(o.shared in (None, shared) for o in taken):
                best = min(best, sum(o.time_us for o in taken))
    return best


@settings(deadline=None, max_examples=50)  # the first example imports scipy
@given(problems())
def test_the_fastest_within_the_allowance(problem):
    options, chains, nats = problem
    found = choose_candidates(options, chains, nats)
    assert found.time_us == pytest.approx(by_trying(options, chains, nats), abs=1e-3)
    assert found.excess <= nats + 1e-9
    assert {o.shared for o in found.taken.values()} - {None} == {bool(found.shared)}
    assert choose_candidates(options, chains, nats) == found


def test_allowances_far_below_the_solvers_tolerance():
    options = {"a": [option(10, candidate=PLAIN), option(5, 2e-12)], "b": [option(10, candidate=PLAIN), option(5, 2e-13)]}
    taken = choose_candidates(options, [], 1e-12).taken
    assert taken["a"].candidate == PLAIN and taken["b"].candidate == SHIFT


def test_an_infinite_excess_is_no_option_and_nothing_is_free_at_no_budget():
    options = {"a": [option(10, candidate=PLAIN), option(1, math.inf), option(5, 0.0, candidate=TENSOR), option(2, 1e-15)]}
    assert choose_candidates(options, [], 1e9).taken["a"].time_us == 2
    assert choose_candidates(options, [], 0.0).taken["a"].candidate == TENSOR
    with pytest.raises(ConfigError, match="at least 0"):
        choose_candidates(options, [], -1.0)


def test_of_equal_times_the_more_accurate():
    options = {"a": [option(10, candidate=PLAIN), option(5, 0.3), option(5, 0.1, candidate=TENSOR)]}
    assert choose_candidates(options, [], 1.0).taken["a"].candidate == TENSOR


def _worthwhile(candidates, times_us) -> dict[Candidate, float]:
    return in_step({"only": worthwhile(candidates)}, lambda wanted: {key: times_us(each) for key, each in wanted.items()})["only"]


def test_what_saves_nothing_over_something_more_accurate_is_not_measured():
    ways = itertools.product((0, 1, 2), ("float", "shift"), ("per_channel", "per_tensor"))
    blocks = [Candidate(scheme=scheme, requantize=arithmetic, accumulate16=d) for d, arithmetic, scheme in ways]
    asked = []

    def times_us(wanted):
        asked.extend(wanted)
        return [time_us(c) for c in wanted]

    def time_us(c: Candidate) -> float:
        return {0: 100.0, 1: 60.0, 2: 59.5}[c.accumulate16] - 10 * (c.requantize == "shift") - 0.1 * (c.scheme == "per_tensor")

    kept = _worthwhile(blocks, times_us)
    assert {(c.scheme, c.requantize, c.accumulate16) for c in kept} == {
        ("per_channel", "float", 0), ("per_channel", "float", 1), ("per_channel", "shift", 0), ("per_channel", "shift", 1),
    }  # fmt: skip
    assert len(asked) == len(set(asked)) == 7, "the three lengths, the other levers at the fastest, and one combination"
    assert kept[blocks[0]] == 100.0


def test_the_baseline_is_kept_whatever_its_time():
    kept = _worthwhile([PLAIN, SHIFT], lambda wanted: [10.0 if c == PLAIN else 20.0 for c in wanted])
    assert list(kept) == [PLAIN]


def test_searches_in_step_ask_together_and_find_what_they_find_alone():
    ways = [Candidate(scheme="per_channel", requantize="float", accumulate16=d) for d in (0, 1, 2)]
    asked = []

    def ask(wanted):
        asked.append(list(wanted))
        return {key: [100.0 - 10 * c.accumulate16 for c in each] for key, each in wanted.items()}

    lists = {"a": ways, "b": [PLAIN, SHIFT], "c": [PLAIN]}
    found = in_step({key: worthwhile(each) for key, each in lists.items()}, ask)
    assert asked[0] == ["a", "b", "c"] and asked[1:] == [["b"]]
    assert found == {key: in_step({key: worthwhile(each)}, ask)[key] for key, each in lists.items()}
