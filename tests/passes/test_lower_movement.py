"""Moves, clamps and tables: what keeps its scale, and the 256 values of a function."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.script import ir as I
from tvm.script import relax as R

from tests.passes.annotated_case import island, model_of, quantized
from tests.passes.islands_network import Network
from tests.passes.test_lower_arithmetic import Recorder
from tvm_rsq.compiler import compile_exposed, evaluate_elementwise
from tvm_rsq.passes.lower_movement import lower_clamp, lower_lookup, lower_move


def move(mod, tensor, **config):
    view, _ = island(mod, tensor, **config)
    library = Recorder()
    return view, lower_move(view, library), library


@I.ir_module
class Moves:
    @R.function
    def main(x: R.Tensor((1, 6, 8, 8), "float32"), w: R.Tensor((8, 1, 1, 8), "float32"), v: R.Tensor((36, 5), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            first = R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="OHWI")
            padded = R.nn.pad(first, pad_width=[0, 0, 1, 0, 2, 3, 0, 0])
            pooled = R.nn.max_pool2d(padded, pool_size=[3, 2], strides=[2, 3], ceil_mode=True, layout="NHWC")
            resized = R.image.resize2d(
                pooled,
                size=[8, 6],
                layout="NHWC",
                method="nearest_neighbor",
                coordinate_transformation_mode="asymmetric",
                rounding_method="floor",
            )
            sliced = R.strided_slice(resized, axes=[1, 3], begin=[1, 2], end=[7, 8])
            parts = R.split(sliced, indices_or_sections=[2, 3], axis=-1)
            middle = parts[1]
            turned = R.permute_dims(middle, axes=[0, 3, 1, -2])
            flat = R.reshape(turned, (1, 36))
            last = R.matmul(flat, v)
            R.output(last)
        return last


def test_padding_pads_with_the_zero_point():
    view, call, library = move(Moves, "padded")
    assert library.made == "pad" and (library.workload.before, library.workload.after) == ((0, 1, 2, 0), (0, 0, 3, 0))
    assert library.workload.value == view.affine(call.arguments[0]).zero_point == view.output.zero_point


def test_pool_resize_and_permutation():
    _, _, library = move(Moves, "pooled")
    assert (library.workload.kernel, library.workload.stride, library.workload.out_size) == ((3, 2), (2, 3), (3, 5))
    _, _, library = move(Moves, "resized")
    assert (library.workload.coordinates, library.workload.rounding, library.workload.out_size) == ("asymmetric", "floor", (8, 6))
    _, _, library = move(Moves, "turned")
    assert library.workload.permutation == (0, 3, 1, 2)


def test_slices_and_pieces_of_a_split():
    _, _, library = move(Moves, "sliced")
    assert (library.workload.begin, library.workload.strides, library.workload.out_shape) == ((0, 1, 0, 2), (1, 1, 1, 1), (1, 6, 6, 6))
    view, _, library = move(Moves, "middle")
    assert (library.workload.begin, library.workload.out_shape) == ((0, 0, 0, 2), (1, 6, 6, 1))
    assert [node.op for node in view.ops] == ["split", "tuple_get_item"]


def test_a_reshape_is_no_kernel():
    _, call, _ = move(Moves, "flat")
    assert call.kernel is None and call.shape == (1, 36)


def test_a_clamp_keeps_the_scale():
    view, _ = island(Network, "positive")
    library = Recorder()
    lower_clamp(view, library)
    assert library.made == "clamp" and library.workload.qmin == view.output.zero_point and library.workload.qmax == 255
    assert view.affine(view.result.operands[0]) == view.output


@pytest.mark.parametrize("bits", [8, 4])
def test_a_table_holds_the_function(bits):
    view, _ = island(Network, "swish", activation_bits=bits)
    library = Recorder()
    call = lower_lookup(view, library, evaluate_elementwise)
    data, table = call.arguments
    source, out = view.affine(data), view.output
    assert table.shape == (256,) and table.dtype == np.uint8 and table.max() <= 2**bits - 1
    x = source.scale * (np.arange(2**bits) - source.zero_point)
    error = out.scale * (table[: 2**bits].astype(int) - out.zero_point) - x / (1 + np.exp(-x))
    inside = (table[: 2**bits] > 0) & (table[: 2**bits] < out.qmax)
    assert np.abs(error[inside]).max() <= out.scale * 0.5001 and inside.sum() >= 2**bits // 4
    assert (table[2**bits :] == table[2**bits - 1]).all(), "levels that the carrier has and the values never take"


@pytest.mark.parametrize("bits", [8, 6])
def test_what_is_computed(bits):
    found = quantized(model_of(Moves), activation_bits=bits)
    x = np.random.default_rng(0).standard_normal((1, 6, 8, 8)).astype(np.float32)
    result, *stored = compile_exposed(found).run(x)
    tensors = found.simulate_tensors(x)
    for name, values in zip(found.plan.tensors, stored, strict=True):
        np.testing.assert_array_equal(values, tensors[name], err_msg=name)
    np.testing.assert_allclose(result, found.simulate(x), rtol=1e-5, atol=1e-6)
