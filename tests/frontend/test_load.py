"""load: the kinds of models, names, batch, what it leaves alone, and one clear line for everything that it cannot take."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from onnx_networks import around, node, noise
from plain_compile import run_model
from torch import nn

from tvm_rsq.errors import ModelError, UnsupportedError
from tvm_rsq.frontend import load
from tvm_rsq.passes.rewrite_bindings import operator_name


class SmallNet(nn.Module):
    """Convolutions with batch norms, a hardswish, squeeze-and-excite, a dense layer."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8, eps=1e-3), nn.ReLU6())
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm = nn.BatchNorm2d(8)
        self.gate = nn.Conv2d(8, 8, 1)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = nn.functional.hardswish(self.norm(self.depthwise(self.features(x))))
        x = x * nn.functional.hardsigmoid(self.gate(nn.functional.adaptive_avg_pool2d(x, 1)))
        return self.head(self.drop(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)))


PARAMS = [
    "features.0.weight", "features.1.weight", "features.1.bias", "features.1.running_mean", "features.1.running_var",
    "depthwise.weight", "depthwise.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
    "gate.weight", "gate.bias", "head.weight", "head.bias",
]  # fmt: skip


@pytest.fixture(scope="module")
def small_net():
    torch.manual_seed(0)
    net = SmallNet().eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return net


@pytest.fixture(scope="module")
def image():
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def onnx_export(net, image, **options):
    file = io.BytesIO()
    torch.onnx.export(net, (image,), file, dynamo=False, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False, **options)
    return onnx.load_from_string(file.getvalue())


def operators(model):
    return [operator_name(binding.value) for binding in model.module["main"].body.blocks[0].bindings]


def test_torch_and_onnx_exports_give_the_same_model(small_net, image, tmp_path):
    from_module = load(small_net, image)
    proto = onnx_export(small_net, image)
    onnx.save(proto, tmp_path / "net.onnx")
    program = torch.export.export(small_net, (image,))
    torch.export.save(program, tmp_path / "net.pt2")
    expected = small_net(image).detach().numpy()
    reference = operators(from_module)
    assert reference.count("relax.nn.batch_norm") == 2
    for model in (from_module, load(proto), load(program), load(tmp_path / "net.onnx"), load(str(tmp_path / "net.pt2"))):
        assert operators(model) == reference
        assert list(model.params) == PARAMS
        for name, value in model.params.items():
            np.testing.assert_array_equal(value, from_module.params[name], err_msg=name)
    np.testing.assert_allclose(run_model(from_module, image.numpy())[0], expected, rtol=1e-5, atol=1e-5)


def test_names(small_net, image, tmp_path):
    assert load(small_net, image).name == "SmallNet"
    onnx.save(around([node("Relu")]), tmp_path / "mine.onnx")
    assert load(tmp_path / "mine.onnx").name == "mine"
    assert load(tmp_path / "mine.onnx", name="yours").name == "yours"
    model = load(around([node("Relu")]))
    assert model.name == "small" and model.inputs[0].name == "image" and list(model.params) == ["first.weight", "first.bias"]


def test_parameters_are_in_canonical_form(small_net, image):
    params = load(small_net, image).params
    assert params["head.weight"].shape == (8, 5) and params["head.bias"].shape == (5,)
    assert params["gate.bias"].shape == (1, 8, 1, 1) and params["depthwise.weight"].shape == (8, 1, 3, 3)
    np.testing.assert_array_equal(params["head.weight"], small_net.head.weight.detach().numpy().T)


def test_training_state_is_restored(small_net, image):
    net = SmallNet().train()
    net.norm.eval()
    statistics = net.norm.running_mean.clone()
    load(net, image)
    assert net.training and net.features[1].training and not net.norm.training
    assert torch.equal(net.norm.running_mean, statistics)


def test_batch_of_an_onnx_model(small_net, image):
    proto = onnx_export(small_net, image[:1], input_names=["pixels"], dynamic_axes={"pixels": {0: "n"}})
    with pytest.raises(UnsupportedError, match=r"input pixels has the dynamic shape \['n', 3, 16, 16\].*pass batch=1"):
        load(proto)
    model = load(proto, batch=2)
    assert model.inputs[0].shape == (2, 3, 16, 16)
    np.testing.assert_allclose(run_model(model, image.numpy())[0], small_net(image).detach().numpy(), rtol=1e-5, atol=1e-5)


def test_batch_of_torch_models(small_net, image):
    assert load(small_net, image, batch=3).inputs[0].shape == (3, 3, 16, 16)
    dynamic = torch.export.export(small_net, (image,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    with pytest.raises(UnsupportedError, match="dynamic shape .* pass batch="):
        load(dynamic)
    model = load(dynamic, batch=3)
    assert model.inputs[0].shape == (3, 3, 16, 16) and list(model.params) == PARAMS
    with pytest.raises(ModelError, match="static batch 2, got batch=3"):
        load(torch.export.export(small_net, (image,)), batch=3)


def test_batch_fixed_inside_is_refused():
    proto = around([node("Reshape", ["x", "t"])], {"t": np.int64([1, -1])}, shape=("n", 3, 4, 4))
    assert load(proto, batch=1).inputs[0].shape == (1, 3, 4, 4)
    with pytest.raises(ModelError, match=r"shape \[1, 128\] for batch 2"):
        load(proto, batch=2)


@pytest.mark.parametrize("batch", [0, -1, 1.0, True, "2"])
def test_bad_batch_is_refused(batch):
    with pytest.raises(ModelError, match="batch is .* whole number of at least 1"):
        load(around([node("Relu")]), batch=batch)


def test_initializers_listed_as_inputs_are_parameters():
    proto = around([node("Relu")], ir_version=3, opset=9)
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    model = load(proto)
    assert [spec.name for spec in model.inputs] == ["image"] and list(model.params) == ["first.weight", "first.bias"]


def test_external_data(tmp_path):
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "net.onnx"
    onnx.save_model(around([node("Relu")]), path, save_as_external_data=True, location="net.data", size_threshold=0)
    expected = load(around([node("Relu")]))
    np.testing.assert_array_equal(load(path).params["first.weight"], expected.params["first.weight"])

    data = (path.parent / "net.data").read_bytes()
    (path.parent / "net.data").write_bytes(data[:-8])
    with pytest.raises(ModelError, match="external data|damaged"):
        load(path)
    (path.parent / "net.data").unlink()
    with pytest.raises(ModelError, match="does not exist; keep it beside"):
        load(path)

    (tmp_path / "outside.data").write_bytes(data)
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../outside.data"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="expected a file in the model's folder"):
        load(path)


def test_weights_from_nodes_are_called_by_their_output():
    weight = numpy_helper.from_array(noise(2, 4, 1, 1))
    nodes = [node("Constant", [], ["made.weight"], value=weight), node("Conv", ["x", "made.weight"])]
    model = load(around(nodes))
    assert "made.weight" in model.params


def test_shared_weight_names_two_layers():
    nodes = [node("Conv", ["x", "w"], ["y1"]), node("Conv", ["y1", "w"])]
    model = load(around(nodes, {"w": noise(4, 4, 1, 1)}))
    assert list(model.params)[-2:] == ["w", "w.1"]
    np.testing.assert_array_equal(model.params["w"], model.params["w.1"])


def test_several_inputs_and_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x, y):
            z = self.conv(x)
            return z, z + y

    net = Two()
    x, y = torch.randn(1, 3, 4, 4), torch.randn(1, 2, 1, 1)
    model = load(net, (x, y))
    assert [spec.name for spec in model.inputs] == ["x", "y"]
    for got, expected in zip(run_model(model, x.numpy(), y.numpy()), net(x, y), strict=True):
        np.testing.assert_allclose(got, expected.detach().numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(value):
    net = SmallNet()
    with torch.no_grad():
        net.depthwise.weight[0, 0, 1, 1] = value
    with pytest.raises(ModelError, match="depthwise.weight holds 1 NaN or infinite values of 72"):
        load(net, torch.zeros(1, 3, 16, 16))
    weight = noise(2, 4, 1, 1)
    weight[0] = value
    with pytest.raises(ModelError, match="parameter w holds 4 NaN"):
        load(around([node("Conv", ["x", "w"])], {"w": weight}))


def test_bad_files_are_refused_in_one_line(tmp_path):
    whole = around([node("Relu")]).SerializeToString()
    files = {
        "absent.onnx": (None, "does not exist"),
        "text.onnx": (b"this is no network", "not a readable ONNX file|no nodes"),
        "empty.onnx": (b"", "no nodes"),
        "truncated.onnx": (whole[: len(whole) // 2], "not a readable ONNX file"),
        "net.h5": (b"", r"suffix '\.h5', expected \.onnx or \.pt2"),
        "text.pt2": (b"this is no program", "not a torch.export program"),
    }
    for name, (content, message) in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=message) as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="does not exist or is not a file"):
        load(tmp_path / "folder.onnx")


def test_damaged_initializer_is_named():
    proto = around([node("Relu")])
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]
    with pytest.raises(ModelError, match="initializer first.weight is damaged"):
        load(proto)


def without_layers():
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 3])],
        [helper.make_tensor_value_info("y", 1, [1, 3])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def with_input(element_type, shape):
    proto = around([node("Relu")])
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", element_type, shape))
    return proto


def with_opset(version):
    proto = around([node("Relu")])
    proto.opset_import[0].version = version
    return proto


def disconnected():
    proto = around([node("Relu")])
    proto.graph.node[1].input[0] = "nowhere"
    return proto


BAD_MODELS = {
    "no layer": (without_layers, ModelError, "no convolution and no dense layer"),
    "empty graph": (onnx.ModelProto, ModelError, "no nodes"),
    "old opset": (lambda: with_opset(8), UnsupportedError, "opset 8, supported are 9 to"),
    "future opset": (lambda: with_opset(999), UnsupportedError, "opset 999"),
    "wrong input type": (lambda: with_input(onnx.TensorProto.DOUBLE, [1, 3, 4, 4]), ModelError, "(?i)float"),
    "dynamic size": (lambda: with_input(onnx.TensorProto.FLOAT, [1, 3, "h", "w"]), UnsupportedError, r"\[1, 3, 'h', 'w'\].*static shape"),
    "channels do not fit": (lambda: with_input(onnx.TensorProto.FLOAT, [1, 5, 4, 4]), ModelError, "."),
    "disconnected": (disconnected, ModelError, "not valid.*nowhere"),
    "not a model": (lambda: np.zeros(3), ModelError, "model is a ndarray, expected"),
    "module without example": (SmallNet, ModelError, "needs example_inputs"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_models_are_refused_in_one_line(name):
    make, error, message = BAD_MODELS[name]
    with pytest.raises(error, match=message) as caught:
        load(make())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("net", "example", "message"),
    [
        (SmallNet(), torch.zeros(1, 4, 16, 16), "torch.export cannot export SmallNet"),
        (SmallNet(), "image", "example_inputs holds a str"),
        (SmallNet().double(), torch.zeros(1, 3, 16, 16, dtype=torch.float64), "float64, expected float32"),
        (nn.ReLU(), torch.zeros(1, 3), "no convolution and no dense layer"),
    ],
)
def test_bad_modules_are_refused_in_one_line(net, example, message):
    with pytest.raises(ModelError, match=message) as caught:
        load(net, example)
    assert "\n" not in str(caught.value)


def test_program_in_training_mode_is_refused():
    program = torch.export.export(SmallNet().train(), (torch.zeros(2, 3, 16, 16),))
    with pytest.raises(UnsupportedError, match=r"model\.eval\(\)"):
        load(program)


def test_progress_is_reported():
    events = []
    load(around([node("Relu")]), progress=events.append)
    assert [event.done for event in events] == [0, 1, 2] and {event.stage for event in events} == {"import"}


def test_a_channels_last_module_is_read_as_any_other():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    x = torch.randn(1, 3, 8, 8)
    expected = load(module, (x,))
    found = load(module.to(memory_format=torch.channels_last), (x.to(memory_format=torch.channels_last),))
    assert found.network_hash == expected.network_hash
    assert not module[0].weight.is_contiguous(), "the user's module stays as it was"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_module_of_another_precision_is_refused(dtype):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).to(dtype)
    with pytest.raises(ModelError, match=r"expected float32; call model.float\(\)"):
        load(module, (torch.randn(1, 3, 8, 8, dtype=dtype),))
