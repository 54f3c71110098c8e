"""Uniform quantization of weights and activations: scales, zero points, rounding.   real = scale * (q - zero_point)

    weight      q = clip(rne(w / scale), -(2^(bits-1) - 1), 2^(bits-1) - 1)    symmetric, int8 carrier
    activation  q = clip(rne(x * float32(1 / scale) + zero_point), 0, 2^bits - 1)    asymmetric, uint8 carrier, as the kernels compute it

numpy only, no state. Scales are float32 and positive whatever the weights: channels of zeros are normal in trained networks.
"""

from __future__ import annotations

import numpy as np

from tvm_rsq.errors import ConfigError, ModelError
from tvm_rsq.layer_override import BITS, WEIGHT_BITS
from tvm_rsq.tensor_quant import TensorQuant

# Below 2^-12 of the layer's largest scale a channel's scale is held: biases are int32 in units of scale_input * scale_weight, and a
# channel whose weights faded away during training (but not its bias) would overflow them.
SMALLEST_RATIO = np.float32(2.0**-12)
SCALE_OF_ZEROS = np.float32(2.0**-8)
_SMALLEST_RANGE = 2.0**-60  # keeps every product of two scales far from float32's denormals


def weight_scale(
    w: np.ndarray, axis: int | None, bits: int, *, minimum: float | np.ndarray = 0.0, clip_ratio: float | np.ndarray = 1.0
) -> np.ndarray:
    """Symmetric min-max scale of a weight.   scale = max|w| * clip_ratio / (2^(bits-1) - 1)

    w: any shape -> float32 (w.shape[axis],), or (1,) for axis None (per tensor). Always positive:
    a channel of zeros gets the layer's largest scale, a weight of zeros 2^-8, a faint channel at least 2^-12 of the largest scale.
    minimum, a number or one per channel, is a floor of the caller's (see `bias_scale_floor`).
    ModelError: w holds NaN or infinity. ConfigError: bits is not 3, 4, 6, 7 or 8.
    """
    levels = _weight_levels(bits)
    peak = _peak(w, axis)
    if not np.isfinite(peak).all():
        raise ModelError("weights contain NaN or infinity; repair the network before quantizing it")
    scale = (peak * clip_ratio / levels).astype(np.float32)
    largest = scale.max(initial=0.0)
    if largest < _SMALLEST_RANGE:
        return np.maximum(np.full_like(scale, SCALE_OF_ZEROS), minimum).astype(np.float32)
    scale = np.where(peak == 0, largest, np.maximum(scale, largest * SMALLEST_RATIO))
    return np.maximum(scale, minimum).astype(np.float32)


def mse_weight_scale(w: np.ndarray, axis: int | None, bits: int, *, candidates: int = 64, smallest: float = 0.3) -> np.ndarray:
    """The scale that minimises mean((w - w_q)^2), channel by channel, over clip ratios evenly spaced in [smallest, 1].

    Shapes and errors as `weight_scale`; never worse than it, and equal ratios are decided for the larger.
    """
    best_scale = weight_scale(w, axis, bits)
    best_error = _squared_error(w, best_scale, axis, bits)
    for ratio in np.linspace(1.0, smallest, candidates)[1:]:
        scale = weight_scale(w, axis, bits, clip_ratio=ratio)
        error = _squared_error(w, scale, axis, bits)
        better = error < best_error
        best_scale, best_error = np.where(better, scale, best_scale), np.where(better, error, best_error)
    return best_scale.astype(np.float32)


def bias_scale_floor(bias: np.ndarray, input_scale: float) -> np.ndarray:
    """The smallest weight scale, per channel, with which a float32 bias fits in 30 bits.   |bias| / (input_scale * 2^30)

    bias (O,) -> float32 (O,), to be handed to `weight_scale(minimum=...)`; take its maximum for a per-tensor scale.
    """
    return (np.abs(bias.astype(np.float64)) / (input_scale * 2.0**30)).astype(np.float32)


def accumulator_scale_floor(w: np.ndarray, axis: int, bias: np.ndarray | None, quant: TensorQuant) -> np.ndarray:
    """The smallest weight scale, per channel, with which no input can overflow the int32 accumulator.   float32 (w.shape[axis],)

    |sum (q_x - z) q_w + q_b| <= m sum|q_w| + |q_b| < 2^31   with   m = max(z, qmax - z),   |q_w| <= |w| / scale + 1/2
    Only layers of some 66,000 inputs and more are touched: 255 * 127 * 66,000 is 2^31.
    ModelError: so many inputs that no scale would do.
    """
    magnitude = max(quant.zero_point, 2**quant.bits - 1 - quant.zero_point)
    count = w.size // w.shape[axis]
    room = 2.0**31 - 1 - magnitude * count / 2
    if room <= 0:
        most = 2**32 // magnitude
        raise ModelError(f"a layer sums {count} products, expected fewer than {most} for an int32 accumulator; leave it in float")
    total = np.abs(w.astype(np.float64)).sum(axis=_others(axis, w.ndim)) * magnitude
    if bias is not None:
        total = total + np.abs(bias.astype(np.float64)) / quant.scale
    return (total / room * (1 + 2.0**-20)).astype(np.float32)  # a little more than enough, for the rounding to float32


def quantize_weight(w: np.ndarray, scale: np.ndarray, axis: int | None, bits: int) -> np.ndarray:
    """int8 of w's shape, |q| <= 2^(bits-1) - 1. scale (w.shape[axis],), or one value (then axis is not looked at)."""
    levels = _weight_levels(bits)
    q = np.rint(w.astype(np.float32) / _along(scale, axis, w.ndim))
    return np.clip(q, -levels, levels).astype(np.int8)


def dequantize_weight(q: np.ndarray, scale: np.ndarray, axis: int | None) -> np.ndarray:
    """float32 of q's shape.   scale * q"""
    return q.astype(np.float32) * _along(scale, axis, q.ndim)


def fake_quantize_weight(w: np.ndarray, scale: np.ndarray, axis: int | None, bits: int) -> np.ndarray:
    """What the integer network computes with instead of w: float32, w's shape."""
    return dequantize_weight(quantize_weight(w, scale, axis, bits), scale, axis)


def nmse(reference: np.ndarray, approximation: np.ndarray) -> float:
    """mean((r - a)^2) / mean(r^2); 0.0 where both are all zero. ConfigError: shapes differ."""
    if reference.shape != approximation.shape:
        raise ConfigError(f"comparing shapes {reference.shape} and {approximation.shape}, expected equal ones")
    error = float(np.square(reference.astype(np.float64) - approximation).mean())
    power = float(np.square(reference.astype(np.float64)).mean())
    return error / power if power > 0 else (0.0 if error == 0 else float("inf"))


def activation_quant(low: float, high: float, bits: int) -> TensorQuant:
    """Quantization of values in [low, high], widened to hold 0, which is exact.   scale = (high - low) / (2^bits - 1)

    |x - fake_quantize(x)| <= scale / 2 for every x in the range. The scale is the float of a float32.
    A range without width (a tensor that is always 0) gets scale 1 / (2^bits - 1): its values stay exact.
    ConfigError: low > high, a bound is not finite, or bits is not 4, 6 or 8.
    """
    _check_bits(bits)
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ConfigError(f"activation range [{low}, {high}], expected two finite numbers in ascending order")
    low, high, levels = min(float(low), 0.0), max(float(high), 0.0), 2**bits - 1
    if high - low < _SMALLEST_RANGE:
        low, high = 0.0, 1.0
    scale = float(np.float32((high - low) / levels))
    zero_point = int(np.clip(np.rint(-low / scale), 0, levels))
    return TensorQuant(scale=scale, zero_point=zero_point, bits=bits)


def quantize_activation(x: np.ndarray, quant: TensorQuant) -> np.ndarray:
    """uint8 of x's shape (float32, infinities saturate). The product is exact in float64, so the one rounding is the kernels' own."""
    inverse = np.float64(np.float32(1.0) / np.float32(quant.scale))
    return np.clip(np.rint(x.astype(np.float64) * inverse + quant.zero_point), 0, 2**quant.bits - 1).astype(np.uint8)


def dequantize_activation(q: np.ndarray, quant: TensorQuant) -> np.ndarray:
    """float32 of q's shape.   scale * (q - zero_point)"""
    return (q.astype(np.int32) - quant.zero_point).astype(np.float32) * np.float32(quant.scale)


def fake_quantize(x: np.ndarray, quant: TensorQuant) -> np.ndarray:
    """float32 of x's shape: what is left of x after being stored as `quant`."""
    return dequantize_activation(quantize_activation(x, quant), quant)


def _check_bits(bits: int, allowed: tuple[int, ...] = BITS) -> None:
    if bits not in allowed:
        raise ConfigError(f"{bits!r} bits, expected one of {allowed}")


def _weight_levels(bits: int) -> int:
    _check_bits(bits, WEIGHT_BITS)
    return 2 ** (bits - 1) - 1


def _others(axis: int | None, ndim: int) -> tuple[int, ...]:
    return tuple(i for i in range(ndim) if axis is None or i != axis % ndim)


def _peak(w: np.ndarray, axis: int | None) -> np.ndarray:
    return np.abs(w).max(axis=_others(axis, w.ndim), initial=0.0).astype(np.float64).reshape(-1)


def _along(scale: np.ndarray, axis: int | None, ndim: int) -> np.ndarray:
    scale = np.asarray(scale, np.float32).reshape(-1)
    if scale.size == 1 or axis is None:
        return scale.reshape((1,) * ndim)
    shape = [1] * ndim
    shape[axis] = -1
    return scale.reshape(shape)


def _squared_error(w: np.ndarray, scale: np.ndarray, axis: int | None, bits: int) -> np.ndarray:
    error = np.square(w.astype(np.float64) - fake_quantize_weight(w, scale, axis, bits))
    return error.sum(axis=_others(axis, w.ndim)).reshape(-1)
