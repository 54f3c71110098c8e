"""Weights whose integers are entries of a codebook: codes in the file, and the weight itself nowhere in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from tvm import relax

import tvm_rsq
from tests.integer_case import noise
from tests.passes.annotated_case import lowered, model_of, quantized
from tests.passes.islands_network import Network, model
from tvm_rsq.errors import ConfigError
from tvm_rsq.passes.fold_islands import fold_islands
from tvm_rsq.passes.island_view import Expanded, IslandView
from tvm_rsq.passes.lower_codebook import code_bits, lower_codebook
from tvm_rsq.passes.lower_islands import EXPAND
from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.parse import parse_target

BOOK = (-127, -64, -30, -9, 0, 9, 40, 127)


def constants(mod, function: str) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    kind = type(relax.const(0))
    relax.analysis.post_order_visit(mod[function], lambda e: found.append(e.value.numpy()) if isinstance(e, kind) else None)
    return found


def test_annotation_notes_the_codebooks_and_folding_keeps_them():
    overrides = {"w": "grid=codebook", "w2": "weight_bits=8", "w3": "grid=uniform"}
    found = quantized(model(), weight_bits=4, nonuniform=True, eight_bit_share=0.0, overrides=overrides)
    noted = {name: [int(entry) for entry in book] for name, book in dict(found.annotated.module["main"].attrs["rsq.codebook"]).items()}
    assert noted == {"w": list(found.plan.layer("w").codebook[0]), "w3": [*range(-7, 8), 7]}
    folded = fold_islands(found.annotated.module)
    islands = [IslandView(folded, var.name_hint) for var in folded.get_global_vars() if var.name_hint != "main"]
    books = {island.layer: island.codebook for island in islands}
    assert (list(books["w"]), list(books["w3"]), books["w2"]) == (noted["w"], noted["w3"], ())


def test_main_takes_the_weights_that_another_function_makes():
    found = quantized(model_of(Network), weight_bits=4, nonuniform=True, eight_bit_share=0.0)
    text = found.annotated.module.script(show_meta=True)
    mod, calls = lowered(found)
    assert [var.name for var in mod["main"].params] == ["x", "w", "w2", "w3"] and not mod[EXPAND].params
    assert len(calls) == 11, "expanding is no kernel call of the network's"
    assert "int8" not in {str(array.dtype) for array in constants(mod, "main")}, "biases, multipliers, and a table of bytes"
    assert sum(array.nbytes for array in constants(mod, EXPAND)) < 0.75 * (8 * 3 * 9 + 8 * 9 * 8 + 160) + 3 * 16 + 3 * 64
    assert found.annotated.module.script(show_meta=True) == text


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


@pytest.mark.parametrize(("bits", "nonuniform"), [(4, False), (4, True), (6, True), (3, True)])
def test_the_artifact_holds_codes_and_no_weight(tmp_path, bits, nonuniform):
    config = tvm_rsq.QuantConfig(scheme="per_channel", weight_bits=bits, nonuniform=nonuniform, eight_bit_share=0.0)
    data = noise(8, 1536)
    found = tvm_rsq.quantize(big_dense(), config, example_inputs=(torch.zeros(1, 1536),), calibration=data)
    module = found.compile("llvm")
    first, second = found.plan.layers
    kernels = {call.layer: call.kernel for call in module.contents.calls}
    assert kernels[first.name].endswith(f"_codes{bits}") and "codes" not in kernels[second.name]
    # The bytes of the integers, in any of the orders that hold a run of one input channel pair: not in the library.
    library = module.contents.library
    for layer in (first, second):
        weight = found.annotated.params[layer.name]
        assert weight.tobytes()[:64] not in library and np.ascontiguousarray(weight.T).tobytes()[:64] not in library
    size = sum(found.model.params[layer.name].size for layer in found.plan.layers) * bits / 8
    eight = tvm_rsq.quantize(
        big_dense(), tvm_rsq.QuantConfig(scheme="per_channel"), example_inputs=(torch.zeros(1, 1536),), calibration=data
    ).compile("llvm")
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
    (plain,) = lower_codebook(Kernel(name="winograd", prim_func=None), packed, BOOK, library)
    assert plain is packed
    (made,) = lower_codebook(Kernel(name="direct", prim_func=None, expanded=3), packed, BOOK, library)
    assert isinstance(made, Expanded) and made.shape == (2, 4) and made.table.tolist() == [*BOOK, *[127] * 8]
    grouped = np.resize(np.array(BOOK, np.int8), (2, 8, 5))
    codes, table = lower_codebook(Kernel(name="codes", prim_func=None, codes=CodeRows(3)), grouped, BOOK, library)
    assert codes.dtype == np.uint8 and codes.size == 2 * 3 * 5 and table.tolist() == made.table.tolist()


def test_weights_that_are_not_in_the_codebook_and_odd_codebooks_are_refused():
    library, packed = parse_target("llvm").library, np.array([[8]], np.int8)
    with pytest.raises(ConfigError, match="not all in their codebook"):
        lower_codebook(Kernel(name="direct", prim_func=None, expanded=3), packed, BOOK, library)
    with pytest.raises(ValueError, match="a codebook of 7 entries, expected 2 to the power of one of"):
        code_bits(BOOK[:7])
    with pytest.raises(ConfigError, match="expected 16 ascending whole numbers from -127 to 127, one of them 0"):
        plan = quantized(model(), weight_bits=4, nonuniform=True).plan
        layer = next(layer for layer in plan.layers if layer.codebook)
        replace(layer, codebook=(tuple(range(1, 17)),))
