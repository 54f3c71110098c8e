"""The rest behind a layer against running the whole network again, bit for bit, on random graphs with branches."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import build, classifier
from tvm import relax
from tvm.relax import op as R

from tvm_rsq.executor import Executor
from tvm_rsq.model import Model
from tvm_rsq.shared_prefix import SharedPrefix

# What to do (weights are 4x4), and which of the tensors so far to do it to.
STEP = st.tuples(st.sampled_from(["dense", "relu", "clip", "add", "bias", "reshape", "split"]), st.integers(0, 99), st.integers(0, 99))


def network(steps: list[tuple[str, int, int]], outputs: list[int]) -> Model:
    """A network of tensors (1, 4)."""
    rng = np.random.default_rng(0)
    params = {f"w{i}": rng.standard_normal((4, 4)).astype(np.float32) for i, (kind, *_) in enumerate(steps) if kind == "dense"}
    params |= {f"b{i}": rng.standard_normal(4).astype(np.float32) for i, (kind, *_) in enumerate(steps) if kind == "bias"}

    def body(emit, x, p):
        made = [x]
        for i, (kind, a, b) in enumerate(steps):
            a, b = made[a % len(made)], made[b % len(made)]
            if kind == "split":
                made.append(emit(R.concat([emit(relax.TupleGetItem(halves := emit(R.split(a, 2, 1)), 1)), emit(halves[0])], 1)))
            else:
                made.append(emit({
                    "dense": lambda a, b, i: R.matmul(a, p[f"w{i}"]), "relu": lambda a, b, i: R.nn.relu(a),
                    "clip": lambda a, b, i: R.clip(a, -0.5, 0.7), "add": lambda a, b, i: R.add(a, b),
                    "bias": lambda a, b, i: R.add(a, p[f"b{i}"]), "reshape": lambda a, b, i: R.reshape(a, (1, 4)),
                }[kind](a, b, i)))  # fmt: skip
        return relax.Tuple([made[i % len(made)] for i in outputs])

    return build(body, [(1, 4)], params)


def check(model: Model, inputs: list[torch.Tensor]) -> None:
    executor = Executor(model)
    layers = executor.layers
    with torch.no_grad():
        prefix = SharedPrefix(executor, inputs, layers)
        assert _equal(prefix.reference, executor.run(inputs))
        trace = executor.trace(inputs)
        for layer in layers:
            value, weight = prefix.reach(layer), executor.params[layer.name] * 1.5
            assert torch.equal(value, trace[layer.input])
            for scale in (0.5, 2.0):  # twice: nothing that is still to be read was overwritten

                def before(step, read, layer=layer, scale=scale, weight=weight):
                    return [read[0] * scale, weight] if step.name == layer.binding else read

                assert _equal(prefix.rest(layer, value * scale, weight), executor.run(inputs, before=before))
            prefix.leave(layer)


def _equal(got, expected) -> bool:
    return len(got) == len(expected) and all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=10), st.lists(st.integers(0, 99), min_size=1, max_size=3))
def test_random_graphs(steps, outputs):
    check(network(steps, outputs), [torch.randn(3, 4, generator=torch.Generator().manual_seed(0))])


def test_a_branch_beside_the_layer_that_comes_later_in_order():
    # w0 - relu - add, and beside them w2 - bias - clip
    check(
        network([("dense", 0, 0), ("relu", 1, 0), ("dense", 0, 0), ("bias", 3, 0), ("clip", 4, 0), ("add", 2, 5)], [6]), [torch.ones(2, 4)]
    )


def test_a_view_of_what_is_still_to_be_read_is_not_overwritten():
    # relu reads a view of w0's output, which add reads after it
    check(network([("dense", 0, 0), ("reshape", 1, 0), ("relu", 2, 0), ("add", 1, 3)], [4]), [torch.randn(2, 4)])


def test_values_are_dropped_when_nothing_to_come_reads_them():
    executor = Executor(network([(kind, i, 0) for i, kind in enumerate(["dense", "relu"] * 5)], [10]))
    with torch.no_grad():
        prefix = SharedPrefix(executor, [torch.ones(1, 4)], executor.layers)
        for layer in executor.layers:
            prefix.reach(layer)
            assert prefix.kept == {layer.input}
            prefix.leave(layer)


def test_convolutions():
    check(classifier(softmax=True), [torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))])
