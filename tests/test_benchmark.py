from __future__ import annotations

from tvm_rsq.benchmark import is_unstable, measure, random_inputs
from tvm_rsq.model import InputSpec


def test_builds_take_turns_and_the_order_rotates():
    order = []
    clock = iter(range(0, 10**9, 2000))
    found = measure({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeat=3, warmup=1, clock_ns=lambda: next(clock))
    assert "".join(order) == "abbaabba"
    assert found == {"a": (2.0, 2.0, 2.0), "b": (2.0, 2.0, 2.0)}  # microseconds, without the warm-up


def test_progress_reaches_the_end():
    events = []
    measure({"a": lambda: None}, repeat=2, warmup=1, progress=events.append)
    assert [(e.done, e.total) for e in events] == [(1, 3), (2, 3), (3, 3)]


def test_unstable_is_a_spread_of_a_tenth():
    assert is_unstable([80.0, 100.0, 120.0]) and not is_unstable([98.0, 100.0, 102.0]) and not is_unstable([5.0])


def test_inputs_follow_the_specs_and_the_seed():
    spec = InputSpec(name="x", shape=(2, 3), dtype="float32")
    (x,), (y,), (z,) = (random_inputs((spec,), seed) for seed in (1, 1, 2))
    assert x.shape == (2, 3) and x.dtype == "float32" and (x == y).all() and (x != z).any()
