"""Cutting networks into blocks: what belongs together stays together, and every step is in one block."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax
from tvm.relax import op as R

from tests.tiny_networks import build
from tvm_rsq import pipeline
from tvm_rsq.executor import Executor
from tvm_rsq.model import InputSpec, Model
from tvm_rsq.network_blocks import LONGEST, NetworkBlock, network_blocks
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import find_islands


def _weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) / 4 for name, shape in shapes.items()}


def _conv(emit, x, weight, **options):
    return emit(R.nn.relu(emit(R.nn.conv2d(x, weight, **options))))


def _blocks(body, params, shapes=((1, 4, 8, 8),), **options) -> tuple[NetworkBlock, ...]:
    model = pipeline.prepare(build(body, shapes, params))
    executor = Executor(model)
    blocks = network_blocks(executor, find_islands(Dataflow(model.module), ()).quantized, **options)
    _check(executor, blocks)
    return blocks


def _check(executor: Executor, blocks: tuple[NetworkBlock, ...]) -> None:
    assert [step.name for block in blocks for step in block.steps] == [step.name for step in executor.steps]
    assert [layer.name for block in blocks for layer in block.layers] == [layer.name for layer in executor.layers]
    known = {spec.name for spec in executor.model.inputs}
    for block in blocks:
        assert block.layers
        assert set(block.inputs) <= known
        known |= set(block.outputs)
    assert set(executor.outputs) <= known


def _names(blocks: tuple[NetworkBlock, ...]) -> list[list[str]]:
    return [[layer.name for layer in block.layers] for block in blocks]


def test_a_residual_block_is_one_block():
    params = _weights(stem=(4, 4, 3, 3), a=(4, 4, 3, 3), b=(4, 4, 3, 3), c=(4, 4, 3, 3), d=(4, 4, 3, 3))

    def body(emit, x, p):
        x = _conv(emit, x, p["stem"], padding=1)
        for first, second in (("a", "b"), ("c", "d")):
            y = _conv(emit, x, p[first], padding=1)
            y = emit(R.nn.conv2d(y, p[second], padding=1))
            x = emit(R.nn.relu(emit(R.add(y, x))))
        return x

    blocks = _blocks(body, params)
    assert _names(blocks) == [["stem"], ["a", "b"], ["c", "d"]]
    assert all(len(block.inputs) == len(block.outputs) == 1 for block in blocks)
    assert _names(_blocks(body, params, layerwise=True)) == [["stem"], ["a"], ["b"], ["c"], ["d"]]


def test_a_chain_is_cut_at_its_bottlenecks():
    params = _weights(
        expand=(16, 4, 1, 1), depthwise=(16, 1, 3, 3), project=(4, 16, 1, 1), again=(16, 4, 1, 1), depthwise2=(16, 1, 3, 3),
        project2=(6, 16, 1, 1), head=(32, 6, 1, 1), dense=(32, 5),
    )  # fmt: skip

    def body(emit, x, p):
        for first, second, third in (("expand", "depthwise", "project"), ("again", "depthwise2", "project2")):
            x = _conv(emit, x, p[first])
            x = _conv(emit, x, p[second], padding=1, groups=16)
            x = emit(R.nn.conv2d(x, p[third]))
        x = _conv(emit, x, p["head"])
        return emit(R.nn.softmax(emit(R.matmul(emit(R.mean(x, [2, 3])), p["dense"]))))

    expected = [["expand", "depthwise", "project"], ["again", "depthwise2", "project2"], ["head", "dense"]]
    assert _names(_blocks(body, params)) == expected


def test_what_is_concatenated_stays_together():
    params = _weights(first=(4, 4, 3, 3), squeeze=(2, 4, 1, 1), left=(4, 2, 1, 1), right=(4, 2, 3, 3), last=(4, 8, 3, 3))

    def body(emit, x, p):
        x = _conv(emit, x, p["first"], padding=1)
        x = _conv(emit, x, p["squeeze"])
        x = emit(R.concat([_conv(emit, x, p["left"]), _conv(emit, x, p["right"], padding=1)], axis=1))
        return _conv(emit, x, p["last"], padding=1)

    blocks = _names(_blocks(body, params))
    assert blocks == [["first", "squeeze"], ["left", "right", "last"]]  # the squeezed tensor is the smallest


def test_long_blocks_are_split_and_then_have_several_inputs():
    count = 2 * LONGEST
    params = _weights(**{f"w{i}": (2, 4 + 2 * i, 3, 3) for i in range(count)})

    def body(emit, x, p):
        parts = [x]
        for i in range(count):
            joined = emit(R.concat(parts, axis=1)) if len(parts) > 1 else x
            parts.append(_conv(emit, joined, p[f"w{i}"], padding=1))
        return emit(R.mean(emit(R.concat(parts, axis=1)), [2, 3]))

    blocks = _blocks(body, params)
    assert all(len(block.layers) <= LONGEST for block in blocks)
    assert len(blocks[1].inputs) > 1 and set(blocks[0].outputs) == set(blocks[1].inputs)


@pytest.mark.parametrize("layerwise", [False, True])
def test_several_inputs_and_outputs(layerwise):
    params = _weights(left=(4, 4, 3, 3), right=(4, 4, 3, 3), both=(4, 4, 3, 3))
    builder = relax.BlockBuilder()
    inputs = [relax.Var(name, relax.TensorType((1, 4, 8, 8), "float32")) for name in ("x0", "x1")]
    weights = {name: relax.Var(name, relax.TensorType(value.shape, "float32")) for name, value in params.items()}
    with builder.function("main", [*inputs, *weights.values()], attrs={"num_input": 2}):
        with builder.dataflow():
            left = _conv(builder.emit, inputs[0], weights["left"], padding=1)
            right = _conv(builder.emit, inputs[1], weights["right"], padding=1)
            both = _conv(builder.emit, builder.emit(R.add(left, right)), weights["both"], padding=1)
            output = builder.emit_output(relax.Tuple([both, left]))
        builder.emit_func_output(output)
    specs = tuple(InputSpec(name=name, shape=(1, 4, 8, 8), dtype="float32") for name in ("x0", "x1"))
    model = pipeline.prepare(Model(module=builder.get(), params=params, inputs=specs))
    executor = Executor(model)
    blocks = network_blocks(executor, find_islands(Dataflow(model.module), ()).quantized, layerwise=layerwise)
    _check(executor, blocks)
    assert {name for block in blocks for name in block.inputs} >= {"x0", "x1"}
