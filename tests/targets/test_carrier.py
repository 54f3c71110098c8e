"""Activations carried as int8: every kernel stores what it stores as uint8, less 128."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conv_reference import draw_arguments, expected, run_kernel
from emulated_x86 import spec_that_runs_here
from exact_reference import quantized, run

from tvm_rsq.targets.carried import level_array, stored_array
from tvm_rsq.targets.generic.library import GenericLibrary
from tvm_rsq.targets.generic.steps import WidenStep
from tvm_rsq.targets.generic.word_step import WidenWordStep
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue
from tvm_rsq.targets.workloads_elementwise import (
    AddWorkload,
    AvgPoolWorkload,
    ClampWorkload,
    LookupWorkload,
    MaxPoolWorkload,
    MultiplyWorkload,
    QuantizeWorkload,
    ReduceWorkload,
    RequantizeWorkload,
)
from tvm_rsq.targets.workloads_movement import ConcatWorkload, PadWorkload, PermuteWorkload, ResizeNearestWorkload, StridedSliceWorkload

IMAGE = (1, 6, 7, 19)
POOL = {"shape": IMAGE, "kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1), "out_size": (3, 4)}
TWO, THREE = np.array([0.61, -7.3], "float32"), np.array([0.52, -0.31, 9.4], "float32")
SCALE = np.array([0.013], "float32")
CLIPS = {"qmin": 9, "qmax": 180}
# Method of the library, workload, shapes of what is stored, and what follows them.
KERNELS = {
    "quantize": ("quantize", QuantizeWorkload(shape=(150,), zero_point=77, **CLIPS), [], [np.linspace(-9, 9, 150), SCALE + 9]),
    "quantize, permuted": (
        "quantize", QuantizeWorkload(shape=(1, 3, 4, 5), permutation=(0, 2, 3, 1), zero_point=7), [],
        [np.linspace(-9, 9, 60).reshape(1, 3, 4, 5), SCALE + 9],
    ),
    "requantize": ("requantize", RequantizeWorkload(shape=IMAGE, **CLIPS), [IMAGE], [TWO]),
    "add": ("add", AddWorkload(left_shape=IMAGE, right_shape=IMAGE, **CLIPS), [IMAGE, IMAGE], [THREE]),
    "add, broadcast": ("add", AddWorkload(left_shape=IMAGE, right_shape=(1, 1, 1, 19)), [IMAGE, (1, 1, 1, 19)], [THREE]),
    "add, to float": ("add", AddWorkload(left_shape=IMAGE, right_shape=IMAGE, out="float32", low=-20), [IMAGE, IMAGE], [THREE]),
    "multiply": (
        "multiply", MultiplyWorkload(left_shape=IMAGE, right_shape=IMAGE, left_zero_point=3, right_zero_point=99, zero_point=120),
        [IMAGE, IMAGE], [SCALE],
    ),
    "multiply, channels": (
        "multiply", MultiplyWorkload(left_shape=IMAGE, right_shape=(1, 1, 1, 19), left_zero_point=31, right_zero_point=7, zero_point=90),
        [IMAGE, (1, 1, 1, 19)], [SCALE],
    ),
    "lookup": ("lookup", LookupWorkload(shape=IMAGE), [IMAGE], ["table"]),
    "clamp": ("clamp", ClampWorkload(shape=IMAGE, **CLIPS), [IMAGE], []),
    "max pool": ("max_pool2d", MaxPoolWorkload(**POOL), [IMAGE], []),
    "max pool, dilated": ("max_pool2d", MaxPoolWorkload(**{**POOL, "dilation": (2, 2)}), [IMAGE], []),
    "average pool": ("avg_pool2d", AvgPoolWorkload(**POOL, input_zero_point=44, zero_point=99), [IMAGE], [SCALE + 1]),
    "mean": ("reduce", ReduceWorkload(shape=IMAGE, axes=(1, 2), input_zero_point=100, zero_point=88), [IMAGE], [SCALE + 1]),
    "mean, to float": ("reduce", ReduceWorkload(shape=IMAGE, axes=(1, 2), input_zero_point=100, out="float32"), [IMAGE], [SCALE]),
    "maximum": ("reduce", ReduceWorkload(shape=IMAGE, axes=(3,), kind="max"), [IMAGE], []),
    "concat": (
        "concat", ConcatWorkload(shapes=(IMAGE, IMAGE), axis=3, requantized=(True, False), **CLIPS), [IMAGE, IMAGE], [np.stack([TWO, TWO])]
    ),
    "permute": ("permute", PermuteWorkload(shape=IMAGE, permutation=(0, 3, 1, 2)), [IMAGE], []),
    "pad": ("pad", PadWorkload(shape=IMAGE, before=(0, 1, 2, 0), after=(0, 2, 0, 3), value=201), [IMAGE], []),
    "slice": (
        "strided_slice", StridedSliceWorkload(shape=IMAGE, begin=(0, 1, 0, 3), strides=(1, 2, 1, 4), out_shape=(1, 3, 7, 4)), [IMAGE], []
    ),
    "resize": ("resize_nearest", ResizeNearestWorkload(shape=IMAGE, out_size=(12, 9)), [IMAGE], []),
}  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_an_elementwise_kernel(name):
    method, workload, shapes, rest = KERNELS[name]
    rng = np.random.default_rng(1)
    levels = [quantized(rng, shape, extreme=False) for shape in shapes]
    table = rng.permutation(256).astype("uint8")
    spec = spec_that_runs_here("llvm")
    found = {}
    for carrier in ("uint8", "int8"):
        out = {"out": carrier} if getattr(workload, "out", "float32") != "float32" else {}
        made = replace(workload, dtype=carrier, **out)
        dtype = getattr(made, "out", carrier)
        kernel = getattr(GenericLibrary(spec.library.form, 16, 16), method)(made)
        shape = tuple(int(extent) for extent in kernel.prim_func.params[-1].ty.shape)
        given = [stored_array(table, carrier) if isinstance(r, str) else r.astype("float32") for r in rest]
        found[carrier] = run(spec, kernel, [*(stored_array(q, carrier) for q in levels), *given], shape, dtype)
        assert found[carrier].dtype == dtype
    np.testing.assert_array_equal(level_array(found["int8"]), found["uint8"])
    assert len(np.unique(found["uint8"])) > 3


EPILOGUES = {
    "float": Epilogue(zero_point=100, qmin=3, qmax=200, per_channel=True),
    "residual": Epilogue(zero_point=100, residual=True),
    "shared residual": Epilogue(zero_point=100, residual=True, shared_residual=True, residual_zero_point=40),
    "shift": Epilogue(requantize="shift", zero_point=100, residual=True, shared_residual=True, residual_zero_point=40),
    "fixed point": Epilogue(requantize="fixed_point", zero_point=100, residual=True, residual_zero_point=40),
    "to float": Epilogue(out="float32", residual=True),
}
CONVOLUTIONS = {
    "pointwise": {"kernel": (1, 1), "in_channels": 19, "out_channels": 24},
    "padded": {"kernel": (3, 3), "in_channels": 8, "out_channels": 17, "padding": (1, 1, 1, 1)},
    "one channel a group": {"kernel": (3, 3), "in_channels": 24, "out_channels": 24, "groups": 24, "padding": (1, 0, 1, 2)},
    "narrow": {"kernel": (3, 3), "in_channels": 5, "out_channels": 2, "padding": (1, 1, 1, 1)},
}


@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_a_convolution(convolution, epilogue):
    w = Conv2DWorkload(batch=1, height=7, width=9, **CONVOLUTIONS[convolution], input_zero_point=31, epilogue=EPILOGUES[epilogue])
    spec = spec_that_runs_here("llvm")
    library = GenericLibrary(
        spec.library.form, vector_bytes=16, registers=16, integer_steps=(WidenStep(data="int8"),), word_step=WidenWordStep(),
        winograd_untuned=True, carrier="int8",
    )  # fmt: skip
    a = draw_arguments(w, np.random.default_rng(2), extreme=False)
    np.testing.assert_array_equal(run_kernel(replace(spec, library=library), w, a), expected(w, a))
