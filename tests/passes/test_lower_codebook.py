"""Weights whose integers are entries of a codebook: codes in the file, and the weight itself nowhere in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from tvm import relax
from tvm.ir import IRModule, assert_structural_equal
from tvm.script import ir as I
from tvm.script import relax as R

import tvm_rsq
from tests.integer_case import noise
from tests.passes.annotated_case import lowered, model_of, quantized
from tests.passes.islands_network import Network, model
from tvm_rsq.codebook.scaled_levels import ScaledLevels
from tvm_rsq.errors import ConfigError
from tvm_rsq.layer_workloads import layer_workloads
from tvm_rsq.passes.fold_islands import fold_islands
from tvm_rsq.passes.island_view import Expanded, IslandView
from tvm_rsq.passes.lower_codebook import code_bits, lower_codebook, lower_levels
from tvm_rsq.passes.lower_islands import EXPAND
from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.workload import Conv2DWorkload

BOOK = (-127, -64, -30, -9, 0, 9, 40, 127)


def constants(mod, function: str) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    kind = type(relax.const(0))
    relax.analysis.post_order_visit(mod[function], lambda e: found.append(e.value.numpy()) if isinstance(e, kind) else None)
    return found


def test_annotation_notes_the_codebooks_and_folding_keeps_them():
    overrides = {"w": "grid=codebook", "w2": "weight_bits=8", "w3": "grid=uniform"}
    found = quantized(model(), weight_bits=4, nonuniform=True, eight_bit_share=0.0, overrides=overrides)
    attrs = found.annotated.module["main"].attrs
    noted = {name: [[int(entry) for entry in book] for book in books] for name, books in dict(attrs["rsq.codebook"]).items()}
    assert noted == {"w": [list(found.plan.layer("w").codebook[0])], "w3": [[*range(-7, 8), 7]]} and "rsq.levels" not in attrs
    folded = fold_islands(found.annotated.module)
    islands = [IslandView(folded, var.name_hint) for var in folded.get_global_vars() if var.name_hint != "main"]
    books = {island.layer: [list(book) for book in island.books] for island in islands}
    assert (books["w"], books["w3"], books["w2"]) == (noted["w"], noted["w3"], [])


@I.ir_module
class Before:
    """One layer, whose weight is on a grid of 4 bits."""

    @R.function
    def main(x: R.Tensor((1, 5, 5, 16), "float32"), w: R.Tensor((16, 1, 1, 16), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            out = R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="OHWI")
            R.output(out)
        return out


def test_before_and_after():
    """After

    def expand_weights():
        w = call_tir(expand_codes4, (codes, table), R.Tensor((256,), "int8"))
        return (w,)

    def main(x, w: R.Tensor((256,), "int8")):
        x_q = call_tir(quantize, (x,), ...)
        out = call_tir(conv2d, (x_q, w, bias, multiplier), ...)
        return out
    """
    before = IRModule({"main": Before["main"]})
    found = quantized(model_of(before), weight_bits=4, nonuniform=True, eight_bit_share=0.0)
    mod, _ = lowered(found)
    assert_structural_equal(before, IRModule({"main": Before["main"]}))
    (book,), weight = found.plan.layers[0].codebook, found.annotated.params["w"]
    kernel = parse_target("llvm").library.conv2d(found_workload(found))
    packed = kernel.pack_weight(weight).reshape(-1)
    each = np.array([book.index(value) for value in packed.tolist()], np.uint8)
    filled = np.pad(each, (0, -len(each) % 128)).reshape(-1, 2, 64)  # the low half of a byte is of one vector, the high half of the next
    codes, table = (filled[:, 0] | filled[:, 1] << 4).reshape(-1), np.array(book, np.int8)

    builder = relax.BlockBuilder()
    with builder.function(EXPAND, []):
        with builder.dataflow():
            expand = mod.get_global_var("expand_codes4")
            made = relax.op.call_tir(expand, [relax.const(codes), relax.const(table)], out_ty=relax.TensorType((len(packed),), "int8"))
            result = builder.emit_output(relax.Tuple([builder.emit(made)]))
        builder.emit_func_output(result)
    after = builder.get()[EXPAND]
    assert_structural_equal(mod[EXPAND], after, map_free_vars=True)

    bindings = [binding for block in mod["main"].body.blocks for binding in block.bindings]
    assert [var.name for var in mod["main"].params] == ["x", "w"] and len(bindings) == 2
    quantize, conv2d = (list(binding.value.args[1]) for binding in bindings)
    assert quantize[0].same_as(mod["main"].params[0])
    assert conv2d[0].same_as(bindings[0].var) and conv2d[1].same_as(mod["main"].params[1])
    assert [argument.value.numpy().shape for argument in conv2d[2:]] == [(16,), (16,)]


def found_workload(found: tvm_rsq.QuantizedModel) -> Conv2DWorkload:
    """What the lowering asks the library for, of the only layer."""
    (workload,) = layer_workloads(found.model, found.plan).values()
    return workload


def test_main_takes_the_weights_that_another_function_makes():
    found = quantized(model_of(Network), weight_bits=4, nonuniform=True, eight_bit_share=0.0)
    text = found.annotated.module.script(show_meta=True)
    mod, calls = lowered(found)
    assert [var.name for var in mod["main"].params] == ["x", "w", "w2", "w3"] and not mod[EXPAND].params
    assert len(calls) == 11, "expanding is no kernel call of the network's"
    assert "int8" not in {str(array.dtype) for array in constants(mod, "main")}, "biases, multipliers, and a table of bytes"
    assert sum(array.nbytes for array in constants(mod, EXPAND)) < 0.75 * (8 * 3 * 9 + 8 * 9 * 8 + 160) + 3 * 16 + 3 * 64
    assert found.annotated.module.script(show_meta=True) == text


def test_several_books_and_levels_are_noted_and_no_weight_is_a_constant():
    overrides = {"w*": "grid=codebook", "w": "float,grid=codebook,weight_bits=3"}
    found = quantized(model_of(Network), weight_bits=4, codebook_channels=3, eight_bit_share=0.0, overrides=overrides)
    attrs, layer = found.annotated.module["main"].attrs, found.plan.layer("w")
    levels, scale = ([float(value) for value in values] for values in attrs["rsq.levels"]["w"])
    assert (levels, scale) == (list(layer.codebook[0]), list(layer.weight_scale))
    assert {name: len(books) for name, books in attrs["rsq.codebook"].items()} == {"w2": 3, "w3": 4}
    mod, _ = lowered(found)
    assert [var.name for var in mod["main"].params] == ["x", "w", "w2", "w3"]
    assert not [a for a in constants(mod, "main") if a.dtype == "int8" or (a.dtype == "float32" and a.size > 10)], "weights"
    assert {str(array.dtype) for array in constants(mod, EXPAND)} == {"uint8", "int8", "int32", "float32"}


def test_a_network_of_8_bits_has_no_such_function():
    mod, _ = lowered(quantized(model()))
    assert EXPAND not in [var.name_hint for var in mod.get_global_vars()]


@pytest.mark.parametrize("nonuniform", [False, True])
def test_the_library_computes_what_the_simulation_does(nonuniform):
    found = quantized(model(), weight_bits=4, nonuniform=nonuniform, eight_bit_share=0.0)
    x = noise(1, 3, 8, 8)
    np.testing.assert_allclose(found.compile("llvm").run(x), found.simulate(x), rtol=1e-5, atol=1e-6)


def big_dense() -> nn.Module:
    """One layer that waits for memory, and one that does not."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1536, 1024), nn.ReLU(), nn.Linear(1024, 64)).eval()


@pytest.mark.parametrize(("bits", "nonuniform"), [(4, False), (6, True), (3, True)])
def test_the_artifact_holds_codes_and_no_weight(tmp_path, bits, nonuniform):
    config = tvm_rsq.QuantConfig(scheme="per_channel", weight_bits=bits, nonuniform=nonuniform, eight_bit_share=0.0)
    data = noise(8, 1536)
    found = tvm_rsq.quantize(big_dense(), config, example_inputs=(torch.zeros(1, 1536),), calibration=data)
    module = found.compile("llvm")
    first, second = found.plan.layers
    kernels = {call.layer: call.kernel for call in module.contents.calls}
    assert kernels[first.name].endswith(f"_codes{bits}") and "codes" not in kernels[second.name]
    library = module.contents.library
    for layer, workload in layer_workloads(found.model, found.plan).items():
        plain = parse_target("llvm").library.conv2d(replace(workload, code_bits=0))
        packed = plain.pack_weight(found.annotated.params[layer].T.reshape(workload.out_channels, 1, 1, -1)).tobytes()
        assert packed[:64] not in library and packed[-64:] not in library
    size = sum(found.model.params[layer.name].size for layer in found.plan.layers) * bits / 8
    eight = tvm_rsq.quantize(
        big_dense(), tvm_rsq.QuantConfig(scheme="per_channel"), example_inputs=(torch.zeros(1, 1536),), calibration=data
    )
    plain = parse_target("llvm").library.conv2d(layer_workloads(eight.model, eight.plan)[first.name])
    packed = plain.pack_weight(eight.annotated.params[first.name].T.reshape(1024, 1, 1, -1)).tobytes()
    eight = eight.compile("llvm")
    assert packed[:64] in eight.contents.library, "such a search finds weights where there are any"
    assert len(library) - size < len(eight.contents.library) - size * 8 / bits + 20_000, "nothing but what is in an 8-bit library"
    module.save(tmp_path / "net.rsq")
    again = tvm_rsq.load(tmp_path / "net.rsq")
    x = noise(1, 1536, seed=5)
    np.testing.assert_array_equal(again.run(x), module.run(x))
    np.testing.assert_allclose(module.run(x), found.simulate(x), rtol=1e-5, atol=1e-5)
    assert len(again.time_us(x, repeat=2)) == 2
    assert [time.layer for time in again.profile(x, repeat=2) if time.macs] == [first.name, second.name]


def test_a_kernel_that_wants_codes_gets_them_and_one_that_does_not_gets_the_weight():
    library, packed = parse_target("llvm").library, np.array([[9, 0, -127, 127], [40, 40, 0, -9]], np.int8)
    (plain,) = lower_codebook(Kernel(name="winograd", prim_func=None), packed, [BOOK], library)
    assert plain is packed
    (made,) = lower_codebook(Kernel(name="direct", prim_func=None, expanded=3), packed, [BOOK], library)
    assert isinstance(made, Expanded) and made.shape == (2, 4) and made.table.tolist() == [*BOOK, *[127] * 8]
    grouped = np.resize(np.array(BOOK, np.int8), (2, 8, 5))
    codes, table = lower_codebook(Kernel(name="codes", prim_func=None, codes=CodeRows(3)), grouped, [BOOK], library)
    assert codes.dtype == np.uint8 and codes.size == 2 * 3 * 5 and table.tolist() == made.table.tolist()


OTHER = (-100, -50, 0, 1, 2, 3, 4, 5)


def test_of_several_books_a_kernel_with_slots_gets_offsets_and_one_without_the_weight():
    library = parse_target("llvm").library
    weight = np.array([[9, 0, -127], [40, 40, -9], [-100, 0, 5], [1, 0, 2]], np.int8)[:, None, None]
    (plain,) = lower_codebook(Kernel(name="winograd", prim_func=None), weight, [BOOK, OTHER], library)
    assert plain is weight
    direct = Kernel(name="direct", prim_func=None, pack_weight=lambda w: w.reshape(-1), expanded=3, spread=(4, 3, 1, 1))
    (made,) = lower_codebook(direct, weight, [BOOK, OTHER], library)
    assert made.table.tolist() == [*BOOK, *OTHER] and made.of_slot.tolist() == [0, 0, 8, 8] and made.of_slot.dtype == np.int32
    assert (made.codes[:12] & 7).tolist() == [5, 4, 0, 6, 6, 3, 0, 2, 7, 3, 2, 4], "the first vector of 3-bit codes, lowest bits first"
    with pytest.raises(ConfigError, match="not all in their codebook"):
        lower_codebook(direct, weight[::-1], [BOOK, OTHER], library)


def test_float_weights_are_products_of_their_levels():
    library, levels = parse_target("llvm").library, ScaledLevels(
        levels=np.array([-1, -0.5, 0, 0.1, 0.2, 0.3, 1, 1], np.float32), scale=np.array([0.7, 3], np.float32)
    )
    weight = levels.products(np.array([[0, 3, 2], [6, 5, 1]]))[:, None, None]
    direct = Kernel(name="direct", prim_func=None, pack_weight=lambda w: w.reshape(-1), spread=(2, 3, 1, 1))
    (made,) = lower_levels(direct, weight, levels, library)
    assert made.table is levels.levels and made.of_slot.tolist() == levels.scale.tolist() and made.dtype == "float32"
    (plain,) = lower_levels(replace(direct, spread=None), weight, levels, library)
    np.testing.assert_array_equal(plain, weight.reshape(-1))
    with pytest.raises(ConfigError, match="not all products of their 8 levels; make the plan again"):
        lower_levels(direct, weight + np.float32(1e-6), levels, library)


def test_weights_that_are_not_in_the_codebook_and_odd_codebooks_are_refused():
    library, packed = parse_target("llvm").library, np.array([[8]], np.int8)
    with pytest.raises(ConfigError, match="not all in their codebook"):
        lower_codebook(Kernel(name="direct", prim_func=None, expanded=3), packed, [BOOK], library)
    with pytest.raises(ValueError, match="a codebook of 7 entries, expected 2 to the power of one of"):
        code_bits(BOOK[:7])
    with pytest.raises(ConfigError, match="expected 16 ascending whole numbers from -127 to 127, one of them 0"):
        plan = quantized(model(), weight_bits=4, nonuniform=True).plan
        layer = next(layer for layer in plan.layers if layer.codebook)
        replace(layer, codebook=(tuple(range(1, 17)),))
