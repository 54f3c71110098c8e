"""The development networks: structure always, weights where they are cached."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from scripts.models.network import Network
from scripts.models.photos import load_photos
from scripts.models.preprocessing import Preprocessing
from scripts.models.registry import NETWORKS, load
from scripts.models.squeezenet import _ArraysOnly

BATCH_NORMS = {"mobilenetv2": 52, "efficientnet-lite0": 49, "resnet50": 53, "squeezenet1.1": 0, "resnet18-cifar": 20, "cnn-cifar": 6,
               "resnet20-cifar": 21, "vgg-cifar": 0, "resnet18-random": 20}  # fmt: skip
# of the 20 photos, with each network's own preprocessing
RIGHT = {"mobilenetv2": 18, "efficientnet-lite0": 17, "resnet50": 19, "squeezenet1.1": 13}

GetNetwork = Callable[[str], Network]


@pytest.mark.parametrize("name", BATCH_NORMS)
def test_network_runs_and_is_frozen(real_network: GetNetwork, name: str) -> None:
    if name == "cnn-cifar":
        pytest.importorskip("h5py")
    model, inputs, preprocessing = real_network(name)
    assert inputs[0].shape == (1, 3, preprocessing.crop, preprocessing.crop)
    output = model(*inputs)
    assert output.shape == (1, 10 if name.endswith("cifar") else 1000)
    assert torch.isfinite(output).all()
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()) == BATCH_NORMS[name]


@pytest.mark.parametrize("name", RIGHT)
def test_network_knows_the_photos(real_network: GetNetwork, name: str) -> None:
    network = real_network(name)
    from scripts.models.fetch import is_cached

    if not is_cached("photos"):
        pytest.skip("photos are not in the cache; run: scripts/fetch_models photos")
    images, labels = load_photos()
    classes = network.model(torch.from_numpy(network.preprocessing(images))).argmax(1).numpy()
    # image decoders differ in the last bit, which may flip one photo
    assert abs((classes == labels).sum() - RIGHT[name]) <= 1


def test_pplcnet_is_an_onnx_file(real_network: GetNetwork) -> None:
    import onnx

    network = real_network("pplcnet-orientation")
    nodes = [node.op_type for node in onnx.load(network.model).graph.node]
    assert nodes.count("BatchNormalization") == 27


def test_random_resnet_is_the_same_every_time_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.randn(3)
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(load("resnet18-random").model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
    torch.manual_seed(5)
    assert torch.equal(torch.randn(3), expected)


def test_preprocessing_scales_crops_and_normalises() -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, 20:40] = (10, 20, 30)  # exactly the middle square after scaling by half
    image = Image.fromarray(pixels)
    out = Preprocessing(short_side=20, crop=8, channels="BGR", mean=(1.0, 2.0, 3.0), deviation=(2.0, 2.0, 2.0))([image, image])
    assert out.shape == (2, 3, 8, 8) and out.dtype == np.float32
    np.testing.assert_array_equal(out[0].reshape(3, -1).T, np.tile(np.float32([14.5, 9.0, 3.5]), (64, 1)))


def test_preprocessing_normalises_arrays_as_it_does_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), np.uint8)
    for channels in ("RGB", "BGR"):
        preprocessing = Preprocessing(crop=8, channels=channels, mean=(1.0, 2.0, 3.0), deviation=(2.0, 3.0, 4.0))
        images = [Image.fromarray(image.transpose(1, 2, 0)) for image in pixels]
        np.testing.assert_array_equal(preprocessing.normalized(pixels), preprocessing(images))


def test_every_registered_network_has_a_module() -> None:
    from importlib import import_module

    for module in NETWORKS.values():
        assert callable(import_module(f"scripts.models.{module}").load)


def test_the_pickle_reader_admits_arrays_only() -> None:
    import io

    arrays = {"conv": [np.arange(4, dtype=np.float32)]}
    data = pickle.dumps(arrays, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    np.testing.assert_array_equal(_ArraysOnly(io.BytesIO(data)).load()["conv"][0], arrays["conv"][0])
    with pytest.raises(pickle.UnpicklingError, match="posix.system|nt.system"):
        _ArraysOnly(io.BytesIO(b"cposix\nsystem\n(S'true'\ntR.")).load()
