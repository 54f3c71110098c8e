"""tbl: which form of it the kernels are made of, and that it finds what numpy finds, emulated here and executed by qemu."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import tvm
from conv_reference import POISON, as_stored, carried, expected
from emulated_x86 import compile_here, emulated, spec_that_runs_here
from qemu_aarch64 import QemuLibrary, skip_without_qemu
from test_code_kernels import coded_arguments, drawn_book
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from tvm_rsq.codebook.encode import codes as codes_of
from tvm_rsq.targets.aarch64.code_lookup import TableLookup, code_lookup
from tvm_rsq.targets.carried import level_array
from tvm_rsq.targets.code_rows import CODE_BITS, CodeRows
from tvm_rsq.targets.generic.code_lookup import GatherLookup
from tvm_rsq.targets.generic.steps import vector
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue, ExpandWorkload

TARGETS = ["llvm -mtriple=aarch64", "cortex-a76"]
# Half a register, one, and several; 1, 3, 12 and 24 lanes are gathered.
LANES = [1, 3, 8, 12, 16, 24, 32, 48, 64, 80]

_TBL = re.compile(r"\btbl\s+v\d+\.(8b|16b), \{ (v\d+\.16b(?:, v\d+\.16b)*) \}")
_LANE_LOAD = re.compile(r"\bld1\s+\{ v\d+\.b \}\[")


def forms(spec: TargetSpec, prim_func: PrimFunc) -> tuple[dict[tuple[int, str], int], int]:
    """(registers of the table, width of the result) -> how many such tbl, and how many loads of one byte into a vector."""
    assembly = tvm.compile(tvm.IRModule({"main": prim_func}), target=spec.tvm_target()).mod.inspect_source("asm")
    found: dict[tuple[int, str], int] = {}
    for width, registers in _TBL.findall(assembly):
        form = registers.count("v"), width
        found[form] = found.get(form, 0) + 1
    return found, len(_LANE_LOAD.findall(assembly))


def conv(bits: int, **shape: object) -> Conv2DWorkload:
    w = Conv2DWorkload(batch=1, input_zero_point=7, code_bits=bits, epilogue=Epilogue(per_channel=True, zero_point=90), **shape)
    return carried(w, "int8")


SHAPES = {
    "conv": dict(height=5, width=9, in_channels=32, out_channels=48, kernel=(3, 3), padding=(1, 1, 1, 1)),
    "pointwise": dict(height=4, width=7, in_channels=40, out_channels=100, kernel=(1, 1)),
    "first layer": dict(height=9, width=9, in_channels=3, out_channels=16, kernel=(3, 3), stride=(2, 2)),
    "groups": dict(height=5, width=5, in_channels=24, out_channels=60, kernel=(3, 3), padding=(1, 1, 1, 1), groups=3),
    "dense": dict(height=1, width=1, in_channels=130, out_channels=1000, kernel=(1, 1)),
    "dense of ten": dict(height=1, width=1, in_channels=77, out_channels=10, kernel=(1, 1)),
}


def looked_up(spec: TargetSpec, w: Conv2DWorkload) -> Kernel:
    """The first kernel of the space that looks codes up."""
    space = spec.library.conv2d_space(w)
    return spec.library.conv2d(w, next(choice for choice in space if isinstance(choice, Tile) and choice.codes == "kernel"))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bits", CODE_BITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_find_every_vector_by_one_tbl(target, bits, shape):
    spec, w = parse_target(target), conv(bits, **SHAPES[shape])
    found, lane_loads = forms(spec, looked_up(spec, w).prim_func)
    assert list(found) == [(4 if bits == 6 else 1, "16b")] and lane_loads == 0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bits", CODE_BITS)
def test_the_untuned_dense_kernel_that_waits_for_memory_is_made_of_tbl(target, bits):
    spec, w = parse_target(target), conv(bits, height=1, width=1, in_channels=1536, out_channels=1024, kernel=(1, 1))
    kernel = spec.library.conv2d(w)
    found, lane_loads = forms(spec, kernel.prim_func)
    assert kernel.codes and list(found) == [(4 if bits == 6 else 1, "16b")] and lane_loads == 0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bits", CODE_BITS)
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_expanding_finds_16_weights_by_one_tbl(target, bits, dtype):
    spec, groups = parse_target(target), 5
    w = ExpandWorkload(bits=bits, shape=(groups, CodeRows(bits).vectors, 64), dtype=dtype)
    found, lane_loads = forms(spec, spec.library.expand(w).prim_func)
    # The loop's body, once: four registers for each of a group's vectors.
    assert found == {(4 if bits == 6 else 1, "16b"): 4 * CodeRows(bits).vectors} and lane_loads == 0


def test_the_assembly_of_gathers_looks_otherwise():
    spec = parse_target("aarch64")
    gathering = replace(spec, library=replace(spec.library, code_lookup=GatherLookup()))
    found, lane_loads = forms(spec, looked_up(gathering, conv(6, **SHAPES["conv"])).prim_func)
    assert lane_loads >= 16 and (4, "16b") not in found


def test_which_cpus_have_the_lookup():
    assert parse_target("aarch64").library.code_lookup == parse_target("neoverse-v1").library.code_lookup == TableLookup()
    assert code_lookup(frozenset({"fp-armv8"})) == GatherLookup()


def lookup_function(entries: int, lanes: int, calls: int = 1) -> PrimFunc:
    """prim_func(table int8 (entries,), codes uint8 (calls * lanes,), found int8 (calls * lanes,))"""
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            table = T.arg("table", T.buffer((entries,), "int8"))
            codes, found = (T.arg(name, T.buffer((calls * lanes,), kind)) for name, kind in (("codes", "uint8"), ("found", "int8")))
            with T.serial(calls) as call:
                start = call * lanes
                looked_up = TableLookup().apply(table, entries, codes.vload([start], vector("uint8", lanes)), lanes)
                T.buffer_store(found, looked_up, [tirx.Ramp(start, 1, lanes) if lanes > 1 else start])
    return builder.get()


def run_emulated(prim_func: PrimFunc, *arrays: np.ndarray) -> np.ndarray:
    """The last of the arrays, when the function is done."""
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    compile_here(prim_func, spec_that_runs_here("aarch64"))(*tensors)
    return tensors[-1].numpy()


@pytest.mark.parametrize("bits", CODE_BITS)
@pytest.mark.parametrize("lanes", LANES)
def test_finds_the_entries_of_any_book(bits, lanes):
    rng, rows, calls = np.random.default_rng(lanes), CodeRows(bits), 40
    book = drawn_book(bits, rng)
    each = rng.integers(0, 2**bits, calls * lanes).astype(np.uint8)
    each[: min(2**bits, each.size)] = np.arange(2**bits)[: each.size]
    found = run_emulated(lookup_function(rows.entries, lanes, calls), rows.table(book), each, np.full_like(each, POISON, np.int8))
    np.testing.assert_array_equal(found, book[each])


@pytest.mark.parametrize("entries", [16, 64])
@pytest.mark.parametrize("lanes", [8, 16, 64])
def test_the_emulation_does_what_the_instruction_does(entries, lanes, tmp_path):
    skip_without_qemu()
    table = np.random.default_rng(entries).integers(-128, 128, entries).astype(np.int8)
    every, function = np.arange(256).astype(np.uint8), lookup_function(entries, lanes, 256 // lanes)
    arrays = table, every, np.full(256, POISON, np.int8)
    executed = QemuLibrary({"main": function}, parse_target("aarch64"), tmp_path).call("main", *arrays)[-1]
    np.testing.assert_array_equal(run_emulated(function, *arrays), executed)
    np.testing.assert_array_equal(executed, np.append(table, np.zeros(256 - entries, np.int8)))


def test_what_the_emulation_does_not_know_is_not_let_through():
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        x = T.arg("x", T.buffer((16,), "int8"))
        found = tirx.call_llvm_pure_intrin("int8x16", "llvm.aarch64.neon.tbl2.v16i8", *[x.vload([0], "int8x16")] * 3)
        T.buffer_store(x, found, [tirx.Ramp(0, 1, 16)])
    with pytest.raises(KeyError, match="tbl2"):
        emulated(builder.get())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bits", CODE_BITS)
def test_kernels_under_qemu(target, bits, tmp_path):
    skip_without_qemu()
    spec, rng = parse_target(target), np.random.default_rng(bits)
    kernels = {f"kernel{i}": looked_up(spec, conv(bits, **shape)) for i, shape in enumerate(SHAPES.values())}
    library = QemuLibrary({name: kernel.prim_func for name, kernel in kernels.items()}, spec, tmp_path)
    for (name, kernel), shape in zip(kernels.items(), SHAPES.values(), strict=True):
        w = conv(bits, **shape)
        a, book = coded_arguments(w, rng)
        packed = kernel.pack_weight(a.weight)
        each = codes_of(packed.reshape(1, -1), book[None]).reshape(packed.shape)
        weight = kernel.codes.pack(each).reshape(-1), kernel.codes.table(book)
        s = as_stored(w, a)
        output = library.call(name, s.data, *weight, s.bias, s.multiplier, np.full(w.out_shape, POISON, np.int8))[-1]
        np.testing.assert_array_equal(level_array(output), expected(w, a))


@pytest.mark.parametrize("bits", CODE_BITS)
def test_expanding_under_qemu(bits, tmp_path):
    skip_without_qemu()
    spec, rng = parse_target("aarch64"), np.random.default_rng(bits)
    shapes = [((5,), "int8"), ((700, 3), "int16"), ((513,), "int8"), ((6, 1000), "int8")]
    kernels = [spec.library.expand(ExpandWorkload(bits=bits, shape=shape, dtype=dtype)) for shape, dtype in shapes]
    library = QemuLibrary({f"kernel{i}": kernel.prim_func for i, kernel in enumerate(kernels)}, spec, tmp_path)
    for i, (kernel, (shape, dtype)) in enumerate(zip(kernels, shapes, strict=True)):
        book, each = drawn_book(bits, rng), rng.integers(0, 2**bits, shape).astype(np.uint8)
        arrays = kernel.pack_weight(each), CodeRows(bits).table(book), np.full(shape, POISON, dtype)
        np.testing.assert_array_equal(library.call(f"kernel{i}", *arrays)[-1], book[each])
