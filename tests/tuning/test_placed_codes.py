"""Where codes become weights, as the user says: same outputs, and memory that holds codes or weights."""

from __future__ import annotations

import numpy as np
import pytest

import tvm_rsq
from tests.integer_case import quantized
from tests.test_choose_codebooks import SHAPE, network
from tvm_rsq.errors import ConfigError
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.tuning.placed_codes import PlacedCodes
from tvm_rsq.tuning.task import normalise
from tvm_rsq.tuning.tuned_library import TunedLibrary

LAYER = Conv2DWorkload(batch=1, height=7, width=7, in_channels=32, out_channels=32, kernel=(1, 1), code_bits=4)


@pytest.fixture(scope="module")
def model() -> tvm_rsq.QuantizedModel:
    config = tvm_rsq.QuantConfig(weight_bits=4, nonuniform=True, scheme="per_channel", eight_bit_share=0.0)
    return quantized(network(), [SHAPE], config)


def test_both_places_give_the_same_and_kernels_say_where_they_are(model):
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    built = {codes: model.compile("llvm", codes=codes) for codes in ("auto", "load", "kernel")}
    outputs = [module.run(x) for module in built.values()]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])
    kernels = {codes: [call.kernel for call in module.contents.calls] for codes, module in built.items()}
    assert not any("blocks4" in name or "codes4" in name for name in kernels["load"])
    assert sum("blocks4" in name or "codes4" in name for name in kernels["kernel"]) >= 3
    sizes = {codes: len(module.contents.library) for codes, module in built.items()}
    assert abs(sizes["kernel"] - sizes["load"]) < 2e5


@pytest.mark.parametrize("codes", ["load", "kernel"])
def test_a_tuned_choice_that_is_there_stays(codes):
    library = parse_target("llvm").library
    fitting = [c for c in library.conv2d_space(LAYER) if (getattr(c, "codes", "load") != "load") == (codes == "kernel")]
    tuned = TunedLibrary(library, {normalise(LAYER): fitting[-1]})
    assert PlacedCodes(tuned, codes).conv2d(LAYER).name == library.conv2d(LAYER, fitting[-1]).name
    other = "load" if codes == "kernel" else "kernel"
    assert (PlacedCodes(tuned, other).conv2d(LAYER).codes is not None) == (other == "kernel")


def test_depthwise_layers_are_expanded_all_the_same():
    w = Conv2DWorkload(batch=1, height=7, width=7, in_channels=32, out_channels=32, kernel=(3, 3), groups=32, code_bits=4)
    assert PlacedCodes(parse_target("llvm").library, "kernel").conv2d(w).expanded == 4


def test_another_word(model):
    with pytest.raises(ConfigError, match="codes is 'disk', expected one of auto, load, kernel"):
        model.compile("llvm", codes="disk")
