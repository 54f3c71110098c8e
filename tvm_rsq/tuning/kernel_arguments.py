"""Random arguments for a convolution kernel, inside the ranges that its workload promises."""

from __future__ import annotations

import numpy as np
import tvm

from tvm_rsq.codebook.encode import codes as encode_codes
from tvm_rsq.targets.carried import stored_array
from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workload import Conv2DWorkload, largest_sum, summed_products


def kernel_arguments(w: Conv2DWorkload, kernel: Kernel, seed: int = 0) -> list[tvm.runtime.Tensor]:
    """One tensor for each parameter of `kernel`, in the protocol's order (KernelLibrary.conv2d), the output last."""
    rng = np.random.default_rng(seed)
    depth = w.in_channels // w.groups
    terms = w.kernel[0] * w.kernel[1] * depth
    data = _data(w, rng, (w.batch, w.height, w.width, w.in_channels))
    weight = _weight(w, rng, (w.out_channels, *w.kernel, depth))
    if w.code_bits:
        most = np.abs(weight).max()
        half = np.linspace(0, most, 2 ** (w.code_bits - 1)).round().astype(np.int8)
        book = np.concatenate([-half[:0:-1], half, half[-1:]])
        weight = _towards_zero(weight, book)
    arrays = [data, kernel.pack_weight(weight)]
    if kernel.codes:
        arrays[1:] = kernel_codes(kernel.codes, arrays[1], book)
    shape = (w.batch, w.out_height, w.out_width, w.out_channels)
    if w.in_dtype == "float32":
        arrays.append(rng.standard_normal(w.out_channels).astype(np.float32))
    else:
        arrays += [rng.integers(-1000, 1000, w.out_channels).astype(np.int32), _multiplier(w, rng, terms)]
    if w.epilogue.residual:
        arrays.append(_data(w, rng, shape))
        if w.in_dtype != "float32" and not w.epilogue.shared_residual:
            fixed = w.epilogue.requantize == "fixed_point"
            arrays.append(np.array([2**30, 31], np.int32) if fixed else np.array([0.5, 3], np.float32))
    arrays.append(np.zeros(shape, w.epilogue.out))
    params = len(kernel.prim_func.params)
    if params != len(arrays):
        raise ValueError(f"kernel {kernel.name} takes {params} arguments, expected the {len(arrays)} of KernelLibrary.conv2d")
    return [tvm.runtime.tensor(np.ascontiguousarray(array)) for array in arrays]


def _towards_zero(weight: np.ndarray, book: np.ndarray) -> np.ndarray:
    """Entries of the book, none larger than its weight: sums of blocks keep their promise."""
    size = np.sort(np.unique(np.abs(book[np.isin(-book, book)])))
    return (np.sign(weight) * size[np.searchsorted(size, np.abs(weight), side="right") - 1]).astype(np.int8)


def kernel_codes(codes: CodeRows, packed: np.ndarray, book: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a kernel of codes takes for weights that it has packed: uint8 rows, flat, and the table.   book: int8, ascending

    ConfigError: a weight is not in the book.
    """
    each = encode_codes(packed.reshape(1, -1), book[None]).reshape(packed.shape)
    return codes.pack(each).reshape(-1), codes.table(book)


def _data(w: Conv2DWorkload, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if w.in_dtype == "float32":
        return rng.standard_normal(shape).astype(np.float32)
    return stored_array(rng.integers(0, 256, shape).astype(np.uint8), w.in_dtype)


def _weight(w: Conv2DWorkload, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if w.in_dtype == "float32":
        return rng.standard_normal(shape).astype(np.float32)
    most = largest_sum(w.accumulate16) // summed_products(w.accumulate16) if w.accumulate16 else 127
    return rng.integers(-most, most + 1, shape).astype(np.int8)


def _multiplier(w: Conv2DWorkload, rng: np.random.Generator, terms: int) -> np.ndarray:
    """Of a size that spreads the outputs over their range, and keeps every |total * m| below 2^21 (see Epilogue.bounded)."""
    n = w.out_channels if w.epilogue.per_channel else 1
    unit = 128 / (255 * 127 * np.sqrt(terms))
    if w.epilogue.requantize == "shift":
        return np.full(n, int(np.clip(np.ceil(-np.log2(unit)), 1, 30)), np.int32)
    if w.epilogue.requantize == "fixed_point":
        return np.stack([rng.integers(2**30, 2**31, n), np.full(n, int(np.ceil(31 - np.log2(unit))))]).astype(np.int32)
    return (unit * rng.uniform(0.5, 1, n)).astype(np.float32)
