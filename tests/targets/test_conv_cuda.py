"""CUDA's convolutions: the source that TVM makes of them, run thread by thread, against an independent numpy reference, bit for bit."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from conv_reference import POISON, Arguments, as_stored, carried, draw_arguments, expected
from emulated_cuda import run_source_here
from hypothesis import given, settings
from hypothesis import strategies as st
from test_conv2d import workloads

from tvm_rsq.targets.carried import level_array
from tvm_rsq.targets.cuda import nvcc
from tvm_rsq.targets.cuda.gemm_chunks import GemmChunks
from tvm_rsq.targets.cuda.gemm_tile import GemmTile
from tvm_rsq.targets.cuda.kernel_source import cuda_source
from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue
from tvm_rsq.tuning.kernel_arguments import kernel_codes

LIBRARY = parse_target("cuda -arch=sm_90").library
LAYER = Conv2DWorkload(
    batch=1, height=9, width=9, in_channels=64, out_channels=64, kernel=(3, 3), padding=(1, 1, 1, 1), input_zero_point=7,
    epilogue=Epilogue(per_channel=True, bounded=True, zero_point=3),
)  # fmt: skip
DEPTHWISE = replace(LAYER, in_channels=24, out_channels=24, groups=24)
RESIDUAL = replace(LAYER.epilogue, residual=True)
CASES = {
    "parts of a sum, several rows": (LAYER, GemmTile(rows=2, cols=4, split=4)),
    "warps side by side": (replace(LAYER, kernel=(1, 1), padding=(0, 0, 0, 0)), GemmTile(rows=1, cols=2, warps_m=2, warps_n=2)),
    "more warps than channels": (replace(LAYER, out_channels=40), GemmTile(rows=1, cols=2, warps_n=2, split=2)),
    "8 bytes at a time": (replace(LAYER, in_channels=24, out_channels=40), GemmTile(rows=1, cols=2, split=2)),
    "rows of three channels": (replace(LAYER, in_channels=3, out_channels=32, stride=(2, 2)), GemmTile(rows=2, cols=4)),
    "7x7": (
        replace(LAYER, in_channels=3, out_channels=20, kernel=(7, 7), padding=(3, 3, 3, 3), stride=(2, 2), height=11, width=13),
        GemmTile(rows=1, cols=4, split=2),
    ),
    "groups": (replace(LAYER, in_channels=36, out_channels=12, groups=3), GemmTile(rows=1, cols=1)),
    "bytes of apart taps": (replace(LAYER, in_channels=10, out_channels=10, kernel=(3, 2), dilation=(1, 2)), GemmTile(rows=1, cols=2)),
    "dense, float": (
        replace(
            LAYER, batch=3, height=1, width=1, in_channels=100, out_channels=10, kernel=(1, 1), padding=(0, 0, 0, 0),
            epilogue=Epilogue(out="float32", per_channel=True),
        ),
        GemmTile(rows=1, cols=2, split=2),
    ),
    "residual": (replace(LAYER, epilogue=RESIDUAL), GemmTile(rows=1, cols=8)),
    "shared residual": (replace(LAYER, epilogue=replace(RESIDUAL, shared_residual=True, residual_zero_point=5)), GemmTile(rows=1, cols=4)),
    "part of a concatenation": (replace(LAYER, out_pitch=96, out_offset=16), GemmTile(rows=2, cols=4)),
    "shift": (replace(LAYER, epilogue=replace(LAYER.epilogue, requantize="shift", bounded=False)), GemmTile(rows=1, cols=4)),
    "fixed point": (replace(LAYER, epilogue=replace(LAYER.epilogue, requantize="fixed_point", bounded=False)), GemmTile(rows=1, cols=4)),
    "depthwise": (DEPTHWISE, DepthwiseTile(lanes=4, cols=4)),
    "depthwise, stride 2": (replace(DEPTHWISE, stride=(2, 2), epilogue=RESIDUAL), DepthwiseTile(lanes=4, cols=2)),
    "depthwise, odd": (
        replace(DEPTHWISE, in_channels=7, out_channels=7, groups=7, stride=(2, 1), kernel=(5, 3), dilation=(1, 2)),
        DepthwiseTile(lanes=1, cols=3),
    ),
}  # fmt: skip


def run(w: Conv2DWorkload, a: Arguments, kernel: Kernel, folder, arch: int = 900) -> np.ndarray:
    """w: of int8, or float32"""
    s = as_stored(w, a)
    given = [s.data, kernel.pack_weight(s.weight), s.bias, s.multiplier, s.residual, s.affine]
    output = np.full(w.out_shape, POISON, w.epilogue.out)
    given = [np.ascontiguousarray(each) for each in given if each is not None]
    return level_array(run_source_here(kernel.prim_func, folder, *given, output, arch=arch))


def check(w: Conv2DWorkload, kernel: Kernel, made: Conv2DWorkload, folder, *, extreme: bool = False, arch: int = 900) -> None:
    a = draw_arguments(w, np.random.default_rng(0), extreme=extreme)
    found = run(made, a, kernel, folder, arch)
    own = slice(w.out_offset, w.out_offset + w.out_channels)
    np.testing.assert_array_equal(found[..., own], expected(w, a))
    rest = np.delete(found, np.arange(w.out_pitch or w.out_channels)[own], axis=-1)
    assert np.all(rest == (POISON if made.epilogue.out != "int8" else np.uint8(POISON ^ 128)))


@pytest.mark.parametrize("case", CASES)
def test_a_tile(case, tmp_path):
    w, tile = CASES[case]
    made = carried(w, "int8")
    check(w, LIBRARY.conv2d(made, tile), made, tmp_path, extreme=case == "7x7")


@pytest.mark.parametrize("case", ["parts of a sum, several rows", "8 bytes at a time"])
def test_a_tile_on_a_chip_with_smaller_products(case, tmp_path):
    w, tile = CASES[case]
    made = carried(w, "int8")
    check(w, LIBRARY.conv2d(made, tile), made, tmp_path, extreme=True, arch=750)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(w=workloads(), data=st.data())
def test_any_workload(w, data, tmp_path_factory):
    made = carried(w, "int8")
    tile = data.draw(st.sampled_from(LIBRARY.conv2d_space(made)))
    check(w, LIBRARY.conv2d(made, tile), made, tmp_path_factory.mktemp("kernel"), extreme=data.draw(st.booleans()))


@pytest.mark.parametrize("case", ["parts of a sum, several rows", "8 bytes at a time", "7x7"])
def test_codes_that_are_looked_up(case, tmp_path):
    w, tile = CASES[case]
    made = carried(replace(w, code_bits=4), "int8")
    kernel = LIBRARY.conv2d(made, replace(tile, codes="kernel"))
    assert kernel.name.endswith("_codes4")
    a, book = draw_arguments(w, np.random.default_rng(0), extreme=False), np.array([*range(-120, 0, 16), 0, *range(7, 119, 16)], np.int8)
    a = replace(a, weight=np.random.default_rng(1).choice(book, a.weight.shape))
    s = as_stored(made, a)
    weights = kernel_codes(kernel.codes, kernel.pack_weight(s.weight), book)
    output = np.full(w.out_shape, POISON, "int8")
    found = run_source_here(kernel.prim_func, tmp_path, s.data, *weights, s.bias, s.multiplier, output)
    np.testing.assert_array_equal(level_array(found), expected(w, a))


def test_where_codes_are_looked_up():
    small, large = (replace(LAYER, batch=1, height=1, width=1, kernel=(1, 1), padding=(0,) * 4, in_channels=n) for n in (1024, 1 << 20))
    coded = [carried(replace(w, code_bits=4), "int8") for w in (small, large)]
    assert [LIBRARY.conv2d_space(w)[0].codes for w in coded] == ["load", "kernel"]
    assert LIBRARY.conv2d(coded[0]).expanded == 4 and LIBRARY.conv2d(coded[1]).codes is not None
    other = replace(coded[1], code_bits=6)
    assert {tile.codes for tile in LIBRARY.conv2d_space(other)} == {"load"}
    with pytest.raises(ValueError, match="looks up codes of 4 bits, and .* has 6"):
        LIBRARY.conv2d(other, LIBRARY.conv2d_space(coded[1])[0])


GROUPS = {"in_channels": 10, "out_channels": 6, "groups": 2, "stride": (2, 2)}


@pytest.mark.parametrize("change", [{}, {"in_channels": 24, "out_channels": 24, "groups": 24}, GROUPS])
def test_float(change, tmp_path):
    w = replace(LAYER, **change, in_dtype="float32", epilogue=Epilogue(out="float32", low=0.0, residual=bool(change)))
    a = draw_arguments(w, np.random.default_rng(0), extreme=False)
    np.testing.assert_allclose(run(w, a, LIBRARY.conv2d(w), tmp_path), expected(w, a), rtol=0, atol=1e-4)


def test_untuned_tiles_share_the_work():
    big = carried(replace(LAYER, batch=32, height=56, width=56), "int8")
    small = carried(replace(LAYER, height=7, width=7, in_channels=512, out_channels=512), "int8")
    assert LIBRARY.conv2d_space(big)[0].split == 1 and LIBRARY.conv2d_space(small)[0].split > 1
    for w in (big, small):
        space = LIBRARY.conv2d_space(w)
        assert len(space) == len(set(space)) > 10 and all(tile.split <= GemmChunks(w).steps for tile in space)


@pytest.mark.parametrize("choice", [DepthwiseTile(lanes=4, cols=1), "another"])
def test_choices_of_another_kind_are_refused(choice):
    with pytest.raises(ValueError, match="expected a GemmTile; take one of conv2d_space"):
        LIBRARY.conv2d(carried(LAYER, "int8"), choice)
    with pytest.raises(ValueError, match="in_dtype is uint8, expected int8 or float32"):
        LIBRARY.conv2d(LAYER)


OF_EACH_KIND = ("parts of a sum, several rows", "7x7", "8 bytes at a time", "residual", "depthwise")
ARCHS = ["sm_75", "sm_80", "sm_87", "sm_90"]


@pytest.mark.skipif(not nvcc.is_installed(), reason="needs nvcc, which no GPU is needed for")
@pytest.mark.parametrize("arch", ARCHS)
def test_every_kernel_compiles_for_every_chip_without_spills(arch):
    source = source_of_each_kind()
    _, report = nvcc.cubin(source, arch, report=True)
    assert report.count("0 bytes spill stores, 0 bytes spill loads") == report.count("spill stores") == len(OF_EACH_KIND)
    assembly = nvcc.ptx(source, arch)
    product = "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32" if arch != "sm_75" else "mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32"
    bodies = dict(re.findall(r"\.entry (\w+)_kernel\((.*?)\n}", assembly, re.S))
    assert {name for name, body in bodies.items() if product in body} == {_symbol(name) for name in OF_EACH_KIND} - {"of_depthwise"}
    assert "fma.rn.f32" in assembly and not re.search(r"\bmad\.(rn|rz)\.f32|fma\.rn\.f64", assembly)


WIDE = {
    "residual": replace(LAYER, in_channels=256, out_channels=512, epilogue=RESIDUAL),
    "stem": replace(LAYER, in_channels=3, kernel=(7, 7), padding=(3, 3, 3, 3), stride=(2, 2), height=224, width=224),
    "odd": replace(LAYER, height=28, width=28, in_channels=250, out_channels=250, epilogue=RESIDUAL),
}  # fmt: skip


@pytest.mark.skipif(not nvcc.is_installed(), reason="needs nvcc, which no GPU is needed for")
@pytest.mark.parametrize("arch", ["sm_75", "sm_90"])
def test_the_largest_tiles_of_a_space_do_not_spill(arch):
    kernels = {}
    for name, w in WIDE.items():
        made = carried(w, "int8")
        by_size = sorted(LIBRARY.conv2d_space(made), key=lambda tile: (tile.threads * tile.rows * tile.cols, tile.rows * tile.cols))
        for i, tile in enumerate(dict.fromkeys([by_size[-1], max(by_size, key=lambda tile: tile.rows * tile.cols)])):
            kernels[f"{name}{i}"] = LIBRARY.conv2d(made, tile).prim_func
    _, report = nvcc.cubin(cuda_source(kernels, "sm_80").text, arch, report=True)
    assert report.count("0 bytes spill stores, 0 bytes spill loads") == len(kernels), report


@cache
def source_of_each_kind() -> str:
    """Whatever the chip, TVM makes the same of them."""
    kernels = {}
    for name in OF_EACH_KIND:
        w, tile = CASES[name]
        kernels[_symbol(name)] = LIBRARY.conv2d(carried(w, "int8"), tile).prim_func
    return cuda_source(kernels, "sm_80").text


def _symbol(name: str) -> str:
    return "of_" + re.sub(r"\W", "_", name)
