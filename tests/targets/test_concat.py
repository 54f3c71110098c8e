from __future__ import annotations

import numpy as np
import pytest
from exact_reference import CPUS, affine_rounded, fma32, quantized, run, spec_that_runs_here

from tvm_rsq.targets.generic.concat import make_concat
from tvm_rsq.targets.generic.quantize import requantize_affine
from tvm_rsq.targets.workloads_movement import ConcatWorkload

CASES = [
    (((1, 3, 4, 16), (1, 3, 4, 24), (1, 3, 4, 7)), 3),
    (((2, 3, 4, 5), (2, 1, 4, 5)), 1),
    (((3, 8), (1, 8), (2, 8)), 0),
    (((2, 9),), 1),
]


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize(("shapes", "axis"), CASES)
@pytest.mark.parametrize("extreme", [False, True])
def test_concat(cpu, shapes, axis, extreme):
    spec = spec_that_runs_here(cpu)
    rng = np.random.default_rng(0)
    parts = [quantized(rng, shape, extreme=extreme) for shape in shapes]
    requantized = tuple(i % 2 == 0 for i in range(len(shapes)))
    affine = np.stack([requantize_affine(0.3 + 0.5 * i, 11 * i, 0.6, 60) for i in range(len(shapes))])
    expected = [
        affine_rounded(fma32(x, *a), 1, 0, 0, 250, "uint8") if changed else x
        for x, a, changed in zip(parts, affine, requantized, strict=True)
    ]
    expected = np.concatenate(expected, axis)
    w = ConcatWorkload(shapes=shapes, axis=axis, requantized=requantized, qmax=250)
    got = run(spec, make_concat(w, form=spec.library.form), [*parts, affine], w.out_shape, "uint8")
    np.testing.assert_array_equal(got, expected)


def test_what_is_in_place_is_left_alone():
    spec, rng, shapes = spec_that_runs_here("llvm"), np.random.default_rng(0), ((2, 3, 5), (2, 3, 16), (2, 3, 7))
    first, last = quantized(rng, shapes[0], extreme=False), quantized(rng, shapes[2], extreme=False)
    affine = np.stack([requantize_affine(0.3, 11, 0.6, 60)] * 3)
    w = ConcatWorkload(shapes=shapes, axis=2, requantized=(True, False, False), in_place=(False, True, False))
    got = run(spec, make_concat(w, form=spec.library.form), [first, last, affine], w.out_shape, "uint8")
    moved = affine_rounded(fma32(first, *affine[0]), 1, 0, 0, 255, "uint8")
    np.testing.assert_array_equal(got, np.concatenate([moved, np.full(shapes[1], 77, "uint8"), last], 2))  # 77 is what `run` puts there
