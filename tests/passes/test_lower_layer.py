"""A convolution or dense island: its workload, and the constants that are folded for its kernel."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.script import ir as I
from tvm.script import relax as R

from tests.passes.annotated_case import island
from tests.passes.islands_network import Network
from tvm_rsq.passes.lower_layer import layer_workload, lower_layer
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workload import Conv2DWorkload


class Recorder:
    """A kernel library that notes what it was asked for."""

    workload: Conv2DWorkload

    def conv2d(self, workload: Conv2DWorkload) -> Kernel:
        self.workload = workload
        return Kernel(name="recorded", prim_func=None)


def lower(mod, tensor, **config):
    view, params = island(mod, tensor, **config)
    library = Recorder()
    return view, params, lower_layer(view, params, library), library.workload


def test_a_convolution_with_bias_and_relu():
    view, params, call, workload = lower(Network, "hidden")
    assert (workload.kernel, workload.padding, workload.in_channels, workload.out_channels) == ((3, 3), (1, 1, 1, 1), 3, 8)
    assert workload.epilogue.per_channel and not workload.epilogue.residual and workload.in_dtype == "uint8"
    _, zero, _ = view.output
    assert (workload.epilogue.zero_point, workload.epilogue.qmin, workload.epilogue.qmax) == (zero, zero, 255)
    data, weight, bias, multiplier = call.arguments
    assert data == "image_q"
    # acc - z_x * sum(w) is what the accumulator of (q_x - z_x) * w is
    expected = params["b"] - workload.input_zero_point * params["w"].astype(np.int64).sum((1, 2, 3))
    np.testing.assert_array_equal(bias, expected)
    assert bias.dtype == np.int32 and multiplier.dtype == np.float32 and multiplier.shape == (8,)
    np.testing.assert_array_equal(weight, params["w"])
    scale = view.affine("w").scale.astype(np.float64) * view.affine(data).scale / view.output.scale
    np.testing.assert_array_equal(multiplier, scale.astype(np.float32))


def test_per_tensor_has_one_multiplier():
    _, _, call, workload = lower(Network, "hidden", scheme="per_tensor")
    assert not workload.epilogue.per_channel and call.arguments[3].shape == (1,)


def test_a_residual_and_a_clip_are_fused():
    view, _, call, workload = lower(Network, "bounded")
    assert workload.epilogue.residual and len(call.arguments) == 6
    ratio, offset = call.arguments[5]
    assert call.arguments[4] == "hidden_q"
    hidden, out = view.affine("hidden_q"), view.output
    assert ratio == np.float32(hidden.scale / out.scale)
    assert offset == np.float32(out.zero_point - hidden.zero_point * (hidden.scale / out.scale))
    # 6 is beyond what was seen, or at most one rounding from the end of the range
    assert workload.epilogue.qmin == out.zero_point and workload.epilogue.qmax <= 255


def test_the_networks_last_layer_leaves_in_float_and_is_not_requantized():
    view, _, call, workload = lower(Network, "logits")
    assert workload.epilogue.out == "float32" and workload.epilogue.zero_point == 0 and call.dtype == "float32"
    assert (workload.height, workload.width, workload.kernel, workload.in_channels, workload.out_channels) == (1, 1, (1, 1), 16, 10)
    assert call.result_shape == (1, 10) and call.shape == (1, 1, 1, 10)
    scale = view.affine("w3").scale.astype(np.float64) * view.affine("features_q").scale
    np.testing.assert_array_equal(call.arguments[3], scale.astype(np.float32))


def test_a_layer_in_float_keeps_its_own_numbers():
    _, params, call, workload = lower(Network, "logits", overrides={"w3": "float"})
    assert workload.in_dtype == "float32" and len(call.arguments) == 3
    np.testing.assert_array_equal(call.arguments[1], params["w3"].T.reshape(10, 1, 1, 16))
    np.testing.assert_array_equal(call.arguments[2], params["b3"])


def test_rows_of_a_dense_layer_are_pixels():
    @I.ir_module
    class Rows:
        @R.function
        def main(x: R.Tensor((2, 7, 12), "float32"), w: R.Tensor((12, 5), "float32")):
            R.func_attr({"num_input": 1})
            with R.dataflow():
                y = R.matmul(x, w)
                R.output(y)
            return y

    _, _, call, workload = lower(Rows, "y")
    assert (workload.batch, workload.in_channels) == (14, 12) and call.shape == (14, 1, 1, 5) and call.result_shape == (2, 7, 5)
    (data,) = call.shapes
    assert call.shapes[data] == (14, 1, 1, 12)


@pytest.mark.parametrize("bits", [8, 4])
def test_values_of_fewer_bits_are_clipped_by_the_kernel(bits):
    _, _, _, workload = lower(Network, "hidden", activation_bits=bits)
    assert workload.epilogue.qmax == 2**bits - 1


def test_what_a_layer_computes():
    """The folded constants against (q_x - z_x) * q_w + b, in exact integers."""
    view, params, call, workload = lower(Network, "logits")
    q = np.random.default_rng(0).integers(0, 256, (1, 16))
    _, weight, bias, multiplier = call.arguments
    acc = q @ weight.reshape(10, 16).T.astype(np.int64) + bias
    direct = (q - workload.input_zero_point) @ params["w3"].astype(np.int64) + params["b3"]
    np.testing.assert_array_equal(acc, direct)
    real = (q - workload.input_zero_point) * view.affine("features_q").scale @ (params["w3"] * view.affine("w3").scale)
    bias_real = params["b3"] * view.affine("w3").scale.astype(np.float64) * view.affine("features_q").scale
    np.testing.assert_allclose(acc * multiplier, real + bias_real, rtol=1e-5, atol=1e-6)


def test_a_shift_has_exponents_and_everything_else_in_the_bias():
    view, params, call, workload = lower(Network, "hidden", overrides={"w": "requantize=shift"})
    _, _, bias, exponents = call.arguments
    assert workload.epilogue.requantize == "shift" and exponents.dtype == np.int32 and exponents.shape == (8,)
    effective = view.affine("w").scale.astype(np.float64) * view.affine("image_q").scale / view.output.scale
    np.testing.assert_allclose(effective, 2.0**-exponents, rtol=1e-6)
    plain = params["b"] - workload.input_zero_point * params["w"].astype(np.int64).sum((1, 2, 3))
    np.testing.assert_array_equal(bias, plain + 2 ** (exponents - 1) + view.output.zero_point * 2**exponents)


def test_fixed_point_has_pairs_and_its_residual_too():
    view, _, call, workload = lower(Network, "bounded", requantize="fixed_point")
    assert workload.epilogue.requantize == "fixed_point" and call.arguments[3].shape == (2, 8) and call.arguments[3].dtype == np.int32
    y, s = call.arguments[5]
    hidden = view.affine("hidden_q")
    assert y * 2.0**-s == pytest.approx(hidden.scale / view.output.scale, rel=1e-8)
    assert workload.epilogue.residual_zero_point == hidden.zero_point and workload.epilogue.bounded


def test_a_layer_that_leaves_in_float_is_not_requantized():
    _, _, _, workload = lower(Network, "logits", requantize="fixed_point")
    assert workload.epilogue.requantize == "float" and workload.epilogue.out == "float32"


def test_what_the_scales_or_weights_do_not_keep_is_refused():
    view, params = island(Network, "hidden")
    view.requantize = "shift"
    with pytest.raises(ValueError, match="not powers of two"):
        lower_layer(view, params, Recorder())
    view, params = island(Network, "bounded")
    view.requantize = "shift"
    with pytest.raises(ValueError, match="residual of another scale"):
        lower_layer(view, params, Recorder())
    view, params = island(Network, "logits")
    view.accumulate16 = 1
    with pytest.raises(ValueError, match="promise of accumulate16=1"):
        lower_layer(view, {**params, "w3": np.full_like(params["w3"], 127)}, Recorder())
    assert layer_workload(view, {**params, "w3": np.full_like(params["w3"], 64)}).accumulate16 == 1
    view.requantize, view.accumulate16 = "shift", 0
    with pytest.raises(ValueError, match="leaves in float"):
        layer_workload(view, params)


def test_bounded_is_what_the_weights_say():
    view, params = island(Network, "hidden")
    assert layer_workload(view, params).epilogue.bounded
    huge = params["b"].copy()
    huge[3] = 2**30
    assert not layer_workload(view, {**params, "b": huge}).epilogue.bounded
