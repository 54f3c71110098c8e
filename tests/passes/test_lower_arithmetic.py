"""Sums, products, means and concatenations: workloads and the factors that their kernels take."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.script import ir as I
from tvm.script import relax as R

from tests.passes.annotated_case import island, model_of, quantized
from tests.passes.islands_network import Network
from tvm_rsq.compiler import compile_exposed
from tvm_rsq.passes.lower_arithmetic import lower_concat, lower_mean, lower_product, lower_sum
from tvm_rsq.targets.kernel import Kernel


class Recorder:
    """A kernel library that notes what it was asked for, whatever that is."""

    def __getattr__(self, name):
        def make(workload):
            self.made, self.workload = name, workload
            return Kernel(name=name, prim_func=None)

        return make


def lower(function, mod, tensor, **config):
    view, _ = island(mod, tensor, **config)
    library = Recorder()
    return view, function(view, library), library


def test_a_difference_has_a_negative_factor():
    view, call, library = lower(lower_sum, Network, "difference")
    left, right, (r0, r1, r2) = call.arguments
    assert library.made == "add" and (left, right) == ("swish_q", "hidden_q")
    a, b, out = view.affine(left), view.affine(right), view.output
    assert r0 == np.float32(a.scale / out.scale) and r1 == np.float32(-b.scale / out.scale)
    q = np.array([[0, 0], [255, 0], [0, 255], [100, 200]])
    real = a.scale * (q[:, 0] - a.zero_point) - b.scale * (q[:, 1] - b.zero_point)
    np.testing.assert_allclose(q[:, 0] * r0 + q[:, 1] * r1 + r2, real / out.scale + out.zero_point, rtol=1e-4, atol=1e-3)
    assert (library.workload.qmin, library.workload.qmax) == (0, 255)


def test_a_product_multiplies_the_scales():
    view, call, library = lower(lower_product, Network, "scaled", activation_bits=6)
    left, right, multiplier = call.arguments
    a, b = view.affine(left), view.affine(right)
    assert multiplier == np.float32(a.scale * b.scale / view.output.scale)
    assert (library.workload.left_zero_point, library.workload.right_zero_point) == (a.zero_point, b.zero_point)
    assert library.workload.qmax == 63 and library.workload.zero_point == view.output.zero_point


def test_a_mean_over_whole_axes():
    view, call, library = lower(lower_mean, Network, "features")
    data, multiplier = call.arguments
    assert library.made == "reduce" and (library.workload.axes, library.workload.keepdims) == ((1, 2), False)
    assert library.workload.input_zero_point == view.affine(data).zero_point and call.shape == (1, 16)
    assert multiplier == np.float32(view.affine(data).scale / view.output.scale)


def test_a_concatenation_copies_what_has_the_results_scale():
    view, call, library = lower(lower_concat, Network, "joined")
    *operands, rows = call.arguments
    assert operands == ["scaled_q", "swish_q"] and rows.shape == (2, 2) and library.workload.axis == 3
    own = [view.affine(name)[:2] == view.output[:2] for name in operands]
    assert library.workload.requantized == tuple(not same for same in own)


@I.ir_module
class Pools:
    @R.function
    def main(x: R.Tensor((1, 7, 7, 8), "float32"), w: R.Tensor((8, 1, 1, 8), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            first = R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="OHWI")
            padded = R.nn.avg_pool2d(first, pool_size=[3, 3], strides=[2, 2], padding=[1, 1, 1, 1], count_include_pad=True, layout="NHWC")
            ceiled = R.nn.avg_pool2d(padded, pool_size=[2, 2], strides=[3, 3], ceil_mode=True, layout="NHWC")
            rows = R.mean(ceiled, axis=[-3], keepdims=True)
            summed = R.add(ceiled, rows)
            bounded = R.clip(summed, -1, 1)
            R.output(bounded)
        return bounded


def test_pools_and_a_clamped_sum_in_float():
    _, _, library = lower(lower_mean, Pools, "padded")
    assert library.workload.count_include_pad and library.workload.padding == (1, 1, 1, 1) and library.workload.out_size == (4, 4)
    _, _, library = lower(lower_mean, Pools, "ceiled")
    assert not library.workload.count_include_pad and library.workload.out_size == (2, 2)
    _, _, library = lower(lower_mean, Pools, "rows")
    assert (library.workload.axes, library.workload.keepdims) == ((1,), True)
    _, call, library = lower(lower_sum, Pools, "bounded")
    assert (library.workload.out, library.workload.low, library.workload.high) == ("float32", -1.0, 1.0) and call.dtype == "float32"


@pytest.mark.parametrize("bits", [8, 4])
def test_what_is_computed(bits):
    found = quantized(model_of(Pools), activation_bits=bits)
    x = np.random.default_rng(0).standard_normal((1, 7, 7, 8)).astype(np.float32)
    result, *stored = compile_exposed(found).run(x)
    tensors = found.simulate_tensors(x)
    for name, values in zip(found.plan.tensors, stored, strict=True):
        np.testing.assert_array_equal(values, tensors[name], err_msg=name)
    np.testing.assert_allclose(result, found.simulate(x), rtol=1e-5, atol=1e-6)
