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
