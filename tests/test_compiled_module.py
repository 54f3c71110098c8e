"""A compiled network at run time: bad inputs, threads, times."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests import small_network
from tests.integer_case import quantized
from tests.integer_networks import every_network
from tvm_rsq.errors import InputError

IMAGE = small_network.image()

BAD = {
    "got 0 inputs, expected 1": (),
    "got 2 inputs, expected 1": (IMAGE, IMAGE),
    "is float64 .*convert it with": (IMAGE.astype(np.float64),),
    "is uint8": (IMAGE.astype(np.uint8),),
    r"float32 \(1, 3, 16, 15\), expected float32 \(1, 3, 16, 16\)": (IMAGE[..., :15],),
    r"float32 \(2, 3, 16, 16\)": (np.concatenate([IMAGE, IMAGE]),),
    r"float32 \(3, 16, 16\)": (IMAGE[0],),
    "is <U5": ("image",),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_inputs_are_refused_in_one_line(message):
    for call in (small_network.compiled().run, small_network.compiled().time_us, small_network.compiled().profile):
        with pytest.raises(InputError, match=message) as caught:
            call(*BAD[message])
        assert "\n" not in str(caught.value)


def test_an_array_of_any_layout_in_memory():
    module = small_network.compiled()
    strided = np.asfortranarray(IMAGE)
    assert not strided.flags.c_contiguous
    np.testing.assert_array_equal(module.run(strided), module.run(IMAGE))
    np.testing.assert_array_equal(module(IMAGE), module.run(IMAGE))


def test_results_are_the_callers_own():
    module = small_network.compiled()
    first = module.run(IMAGE)
    kept = first.copy()
    module.run(small_network.image(5))
    np.testing.assert_array_equal(first, kept)


def test_several_threads():
    module = small_network.compiled()
    images = [small_network.image(seed) for seed in range(24)]
    expected = [module.run(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for got, wanted in zip(pool.map(module.run, images), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_several_inputs_and_outputs():
    network, shapes = every_network()["several outputs"]
    found = quantized(network, shapes)
    module = found.compile()
    image = small_network.noise(*shapes[0])
    results = module.run(image)
    assert isinstance(results, tuple) and [r.shape for r in results] == [s.shape for s in found.simulate(image)]
    network, shapes = every_network()["several inputs"]
    module = quantized(network, shapes).compile()
    assert isinstance(module.run(*(small_network.noise(*shape) for shape in shapes)), np.ndarray)


def test_time():
    times = small_network.compiled().time_us(IMAGE, repeat=5, number=2)
    assert len(times) == 5 and all(0 < time < 1e6 for time in times)


def test_the_profile_names_every_layer_and_kernel():
    module = small_network.compiled()
    times = module.profile(IMAGE, repeat=3)
    calls = module.contents.calls
    named = [entry for entry in times if entry.kernel != "float island"]
    assert [(entry.layer, entry.kernel) for entry in named] == [(call.layer or call.tensor, call.kernel) for call in calls]
    assert {layer.name: layer.macs for layer in module.plan.layers} == {entry.layer: entry.macs for entry in times if entry.macs}
    assert any("softmax" in entry.layer for entry in times if entry.kernel == "float island")
    assert all(entry.time_us > 0 for entry in times)


def test_profiling_leaves_the_module_as_it_is():
    module = small_network.compiled()
    before = module.run(IMAGE)
    module.profile(IMAGE, repeat=1)
    np.testing.assert_array_equal(module.run(IMAGE), before)


def test_another_report():
    module = small_network.compiled()
    changed = module.with_report(None)
    assert changed.report is None and module.report is not None
    np.testing.assert_array_equal(changed.run(IMAGE), module.run(IMAGE))
