"""A trained network on photos: the library computes what the simulation says, and classifies as the float network does."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tvm_rsq
from tvm_rsq.compiler import compile_exposed

pytestmark = pytest.mark.slow
AGREEMENT = 0.8  # of twenty photos; 8 bits per channel lose a photo or two whose best classes are close
FEW = 6  # photos that are simulated: float64 takes seconds for each


@pytest.fixture(scope="module")
def mobilenet(real_network):
    """MobileNetV2 quantized per channel with the photos themselves, and what float32 says of them."""
    network = real_network("mobilenetv2")
    from scripts.models.fetch import is_cached
    from scripts.models.photos import load_photos

    if not is_cached("photos"):
        pytest.skip("photos are not in the cache; run: scripts/fetch_models photos")
    images, _ = load_photos()
    photos = network.preprocessing(images)
    config = tvm_rsq.QuantConfig(scheme="per_channel")
    quantized = tvm_rsq.quantize(network.model, config, example_inputs=network.example_inputs, calibration=photos)
    with torch.no_grad():
        in_float = network.model(torch.from_numpy(photos)).argmax(1).numpy()
    return SimpleNamespace(photos=photos, quantized=quantized, in_float=in_float)


def test_every_stored_value_equals_the_simulation(mobilenet):
    photo = mobilenet.photos[:1]
    names = list(mobilenet.quantized.plan.tensors)
    stored = compile_exposed(mobilenet.quantized).run(photo)[-len(names) :]
    expected = mobilenet.quantized.simulate_tensors(photo)
    assert len(names) > 50
    for name, values in zip(names, stored, strict=True):
        assert values.dtype == np.uint8
        np.testing.assert_array_equal(values.reshape(-1), expected[name].reshape(-1), err_msg=name)


def test_the_classes_are_those_of_the_simulation_and_of_float32(mobilenet):
    module = mobilenet.quantized.compile()
    found = np.array([module.run(mobilenet.photos[i : i + 1]).argmax() for i in range(len(mobilenet.photos))])
    simulated = mobilenet.quantized.simulate(mobilenet.photos[:FEW]).argmax(1)
    np.testing.assert_array_equal(found[:FEW], simulated)
    assert np.mean(found == mobilenet.in_float) >= AGREEMENT
