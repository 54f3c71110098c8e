"""Codes to weights on a GPU: byte permutes, shared memory and the kernel that expands weights, against numpy's indexing, bit for bit."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest
import tvm
from emulated_cuda import run_here, run_source_here
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.target import Target
from tvm.tirx import PrimFunc

from scripts.device_pack.lookup_cases import lookup_kernel
from tvm_rsq.targets.code_rows import CODE_BITS, CodeRows
from tvm_rsq.targets.cuda.code_lookup import LANES, PermuteLookup, as_bytes, share_table
from tvm_rsq.targets.cuda.expand_codes import make_expand
from tvm_rsq.targets.cuda.expand_schedule import ExpandSchedule
from tvm_rsq.targets.cuda.kernel_source import cuda_source
from tvm_rsq.targets.workload import ExpandWorkload

POISON, THREADS = 111, 64
# Nothing but a rest; a rest in several of the pairs of a group; whole groups; more than a block.
SIZES = [(1,), (7,), (8,), (129,), (5, 27), (700, 3), (512,), (1024,), (8192,), (8193,), (3, 4001), (33000,), (70001,)]


def drawn(entries: int, seed: int) -> np.ndarray:
    """A table of both signs."""
    return np.random.default_rng(seed).permutation(np.arange(-128, 128))[:entries].astype(np.int8)


def nibble_kernel(words: int) -> PrimFunc:
    """prim_func(words uint32, table, output int8 (8 words,))"""
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            word = T.arg("words", T.buffer((words,), "uint32"))
            table = T.arg("table", T.buffer((16,), "int8"))
            output = T.arg("output", T.buffer((8 * words,), "int8"))
            with T.thread_binding(words // THREADS, thread="blockIdx.x") as block:
                with T.thread_binding(THREADS, thread="threadIdx.x") as thread:
                    at, lookup = block * THREADS + thread, PermuteLookup()
                    found = lookup.nibbles(lookup.registers(table), word[at])
                    T.buffer_store(output, as_bytes(found), [tirx.Ramp(at * 8, 1, 8)])
    return builder.get()


def expansion(bits: int, shape: tuple[int, ...], dtype: str, seed: int = 0) -> tuple[PrimFunc, tuple[np.ndarray, ...], np.ndarray]:
    """The kernel, its arguments, and what it should make of them."""
    each = np.random.default_rng(seed).integers(0, 2**bits, shape).astype(np.uint8)
    book, kernel = drawn(2**bits, seed), make_expand(ExpandWorkload(bits=bits, shape=shape, dtype=dtype), PermuteLookup())
    arguments = kernel.pack_weight(each), CodeRows(bits).table(book), np.full(shape, POISON, dtype)
    return kernel.prim_func, arguments, book[each].astype(dtype)


def test_what_a_byte_permute_is():
    def permute(low: int, high: int, selector: int) -> int:
        with IRBuilder() as builder:
            with T.prim_func(s_tir=True):
                T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
                of, out = T.arg("of", T.buffer((3,), "uint32")), T.arg("out", T.buffer((1,), "uint32"))
                T.buffer_store(out, tirx.call_pure_extern("uint32", "__byte_perm", of[0], of[1], of[2]), [0])
        return int(run_here(builder.get(), np.array([low, high, selector], np.uint32), np.zeros(1, np.uint32))[0])

    assert permute(0x03020100, 0x07060504, 0x7531) == 0x07050301
    assert permute(0x80FF7F01, 0, 0xFFFF3210) == 0x80FF7F01, "the upper 16 bits of a selector say nothing"
    assert permute(0x80FF7F01, 0, 0xBA98) == 0xFFFF0000, "the highest bit of a nibble replicates the sign"


def test_every_four_nibbles_at_once():
    selectors = np.arange(2**16, dtype=np.uint32)
    words, table = selectors | selectors[::-1] << 16, drawn(16, 1)
    found = run_here(nibble_kernel(len(words)), words, table, np.full(8 * len(words), POISON, np.int8))
    nibbles = words[:, None] >> np.arange(0, 32, 4, dtype=np.uint32) & 15
    np.testing.assert_array_equal(found.reshape(-1, 8), table[nibbles])


@pytest.mark.parametrize("entries", [16, 64])
@pytest.mark.parametrize("lanes", LANES)
def test_the_protocol_of_code_lookups(entries, lanes):
    vectors = 4 * THREADS
    codes, table = np.random.default_rng(2).integers(0, entries, vectors * lanes).astype(np.uint8), drawn(entries, 2)
    found = run_here(lookup_kernel(entries, lanes, vectors), codes, table, np.full(codes.shape, POISON, np.int8))
    np.testing.assert_array_equal(found, table[codes])


@pytest.mark.parametrize("lanes", [3, 6, 12, 32])
def test_lanes_that_cuda_has_no_vectors_for(lanes):
    codes: Expr = tirx.const(0, f"uint8x{lanes}")
    with pytest.raises(ValueError, match=f"lanes is {lanes}, expected one of"):
        PermuteLookup().apply(None, 16, codes, lanes)


def test_a_table_needs_threads_that_copy_it():
    with pytest.raises(ValueError, match="threads is 15, expected at least 16"):
        share_table(None, 64, 15)


@pytest.mark.parametrize("width", LANES)
@pytest.mark.parametrize("bits", CODE_BITS)
def test_a_thread_takes_4_8_or_16_bytes(bits, width):
    each = np.random.default_rng(width).integers(0, 2**bits, 12345).astype(np.uint8)
    for dtype in ("int8", "int16"):
        kernel = make_expand(ExpandWorkload(bits=bits, shape=each.shape, dtype=dtype), PermuteLookup(), ExpandSchedule(width))
        book = drawn(2**bits, width)
        found = run_here(kernel.prim_func, kernel.pack_weight(each), CodeRows(bits).table(book), np.full(each.shape, POISON, dtype))
        np.testing.assert_array_equal(found, book[each])
        body = cuda_source({"main": kernel.prim_func}).kernels["main"].text
        read = {4: "uint", 8: "uint2", 16: "uint4"}[width]
        assert body.count(f"*({read}*)(codes") == CodeRows(bits).rows, "one load of each row"


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("bits", CODE_BITS)
@pytest.mark.parametrize("shape", SIZES)
def test_expanded_weights(bits, shape, dtype):
    prim_func, arguments, expected = expansion(bits, shape, dtype)
    np.testing.assert_array_equal(run_here(prim_func, *arguments), expected)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.sampled_from(CODE_BITS), st.integers(1, 3000), st.sampled_from(["int8", "int16"]), st.integers(0, 2**16))
def test_any_size_expands(bits, size, dtype, seed):
    prim_func, arguments, expected = expansion(bits, (size,), dtype, seed)
    np.testing.assert_array_equal(run_here(prim_func, *arguments), expected)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("bits", CODE_BITS)
@pytest.mark.parametrize("shape", [(5,), (129,), (1003,), (70001,)])
def test_the_source_expands(bits, shape, dtype, tmp_path):
    prim_func, (codes, table, _), expected = expansion(bits, shape, dtype)
    memory = np.full(expected.size + 64, POISON, dtype)
    found = run_source_here(prim_func, tmp_path, codes, table, memory[: expected.size].reshape(shape))
    np.testing.assert_array_equal(found, expected)
    assert (memory[expected.size :] == POISON).all(), "nothing is written behind the weights"


@pytest.mark.parametrize("entries", [16, 64])
@pytest.mark.parametrize("lanes", LANES)
def test_the_source_looks_codes_up(entries, lanes, tmp_path):
    vectors = 4 * THREADS
    codes, table = np.random.default_rng(2).integers(0, entries, vectors * lanes).astype(np.uint8), drawn(entries, 2)
    output = np.full(codes.shape, POISON, np.int8)
    np.testing.assert_array_equal(run_source_here(lookup_kernel(entries, lanes, vectors), tmp_path, codes, table, output), table[codes])


def test_threads_and_memory_of_the_source():
    """Registers and permutes for 16 entries; shared memory, filled before any thread reads it, for 64."""
    for bits in CODE_BITS:
        body = cuda_source({"main": expansion(bits, (70001,), "int8")[0]}).kernels["main"].text
        assert "blockIdx.x" in body and "threadIdx.x" in body
        assert ("__byte_perm(" in body) == (bits < 6)
        assert ("__shared__" in body) == ("__syncthreads()" in body) == (bits == 6)
        if bits == 6:
            shared = re.search(r"__shared__ .* (\w+)\[64\]", body)[1]
            filled, read = body.split("__syncthreads()")
            assert re.search(rf"\({shared} \+ .*\) = ", filled) and f"{shared}[" in read


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_87", "sm_90"])
def test_it_compiles_and_stays_in_registers(arch, tmp_path):
    if not (shutil.which("nvcc") and shutil.which("ptxas")):
        pytest.skip("needs nvcc and ptxas, which no GPU is needed for")
    if arch not in subprocess.run(["nvcc", "--list-gpu-code"], capture_output=True, text=True).stdout.split():
        pytest.skip(f"this nvcc does not know {arch}")
    kernels = {f"expand{bits}_{dtype}": expansion(bits, (3, 4001), dtype)[0] for bits in CODE_BITS for dtype in ("int8", "int16")}
    kernels |= {f"look_up{entries}": lookup_kernel(entries, 16, 256) for entries in (16, 64)} | {"nibbles": nibble_kernel(64)}
    (tmp_path / "kernels.cu").write_text(cuda_source(kernels, arch).text)
    for command in (["nvcc", "-w", "-ptx", "-o", "kernels.ptx", "kernels.cu"], ["ptxas", "-v", "-o", "kernels.cubin", "kernels.ptx"]):
        done = subprocess.run([*command, f"-arch={arch}"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    ptx = dict(re.findall(r"\.entry (\w+)_kernel\((.*?)^}", (tmp_path / "kernels.ptx").read_text(), re.M | re.S))
    assert ptx.keys() == kernels.keys()
    for name, text in ptx.items():
        if name.startswith(("expand6", "look_up64")):
            assert "ld.shared" in text, name
        else:
            assert "prmt.b32" in text and "shared" not in text, name
    assert ptx["nibbles"].count("prmt.b32") == 6, "three for four codes"
    used = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
    assert used == [("0", "0", "0")] * len(kernels), done.stderr


@pytest.mark.cuda
@pytest.mark.skipif(not tvm.cuda(0).exist, reason="needs an NVIDIA GPU that TVM can use")
@pytest.mark.parametrize("bits", CODE_BITS)
def test_a_gpu_expands(bits):
    device = tvm.cuda(0)
    target = Target({"kind": "cuda", "arch": f"sm_{device.compute_version.replace('.', '')}"}, host={"kind": "llvm"})
    for shape in SIZES:
        for dtype in ("int8", "int16"):
            prim_func, arguments, expected = expansion(bits, shape, dtype)
            with target:
                run = tvm.compile(tvm.IRModule({"main": prim_func}), target=target).mod["main"]
            tensors = [tvm.runtime.tensor(array, device=device) for array in arguments]
            run(*tensors)
            np.testing.assert_array_equal(tensors[-1].numpy(), expected, err_msg=f"{shape} {dtype}")
