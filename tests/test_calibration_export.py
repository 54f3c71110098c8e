"""A calibration set as .npy, and as what ONNX Runtime and NNCF read: every sample arrives, in order, under the right name."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.errors import CalibrationError, Error

IMAGES = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
SIZES = np.arange(10, dtype=np.float32).reshape(5, 2)
ONE, TWO = CalibrationSet(inputs=(IMAGES,), source="retro-synthesis", seed=3), CalibrationSet(inputs=(IMAGES, SIZES))


class Two(nn.Module):
    """(n, 3, 8, 8), (n, 2) -> (n, 4)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(10, 4)

    def forward(self, image: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.cat((self.features(image), size), 1))


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """Two, for a batch of 2."""
    path = tmp_path / "two.onnx"
    example = (torch.from_numpy(IMAGES[:2]), torch.from_numpy(SIZES[:2]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notice that there is a newer one
        torch.onnx.export(Two().eval(), example, str(path), dynamo=False, opset_version=17, input_names=["image", "size"])
    return path


def needs(*packages: str) -> None:
    """Skips the test where a package is missing: scripts/test installs none of the peers."""
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        pytest.skip(f"{' and '.join(missing)} not installed; run: pip install -c constraints.txt -e .[peers]")


def test_npy_holds_the_inputs(tmp_path: Path) -> None:
    assert ONE.save_npy(tmp_path / "c.npy") == (tmp_path / "c.npy",)
    found = np.load(tmp_path / "c.npy", allow_pickle=False)
    assert found.dtype == np.float32 and (found == IMAGES).all()
    assert [path.name for path in tmp_path.iterdir()] == ["c.npy"]


def test_npy_is_float32_and_in_c_order_whatever_the_set_holds(tmp_path: Path) -> None:
    CalibrationSet(inputs=(IMAGES.astype(np.float64).transpose(0, 2, 3, 1),)).save_npy(str(tmp_path / "c.npy"))
    found = np.load(tmp_path / "c.npy")
    assert found.dtype == np.float32 and found.flags.c_contiguous and (found == IMAGES.transpose(0, 2, 3, 1)).all()


def test_several_inputs_are_a_file_each(tmp_path: Path) -> None:
    files = TWO.save_npy(tmp_path / "my.set.npy")
    assert [path.name for path in files] == ["my.set_0.npy", "my.set_1.npy"]
    assert all((np.load(path) == array).all() for path, array in zip(files, TWO.inputs, strict=True))
    assert sorted(tmp_path.iterdir()) == list(files)


def test_npy_refuses_another_suffix_and_leaves_nothing_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CalibrationError, match=r"c\.npz does not end in \.npy; name such a file"):
        ONE.save_npy(tmp_path / "c.npz")
    (tmp_path / "c.npy").write_bytes(b"before")

    def full(file, *_args, **_keywords):
        file.write(b"half")
        raise OSError("5 requested and 4 written")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match=r"c\.npy"):
        ONE.save_npy(tmp_path / "c.npy")
    assert (tmp_path / "c.npy").read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


def test_the_reader_gives_every_sample_once_and_rewinds() -> None:
    reader = ONE.data_reader("x")
    for _ in range(2):
        feeds = [reader.get_next() for _ in range(len(reader))]
        assert [list(feed) for feed in feeds] == [["x"]] * 5
        assert (np.concatenate([feed["x"] for feed in feeds]) == IMAGES).all()
        assert reader.get_next() is None and reader.get_next() is None
        reader.rewind()
    assert [feed["x"].shape for feed in reader] == [(1, 3, 8, 8)] * 5


@pytest.mark.parametrize(("batch", "rows"), [(2, [[0, 1], [2, 3], [4, 0]]), (5, [[0, 1, 2, 3, 4]]), (7, [[0, 1, 2, 3, 4, 0, 1]])])
def test_the_last_batch_is_filled_up_from_the_first_samples(batch: int, rows: list[list[int]]) -> None:
    feeds = list(TWO.data_reader(["image", "size"], batch=batch))
    assert [feed["size"].tolist() for feed in feeds] == [SIZES[row].tolist() for row in rows]
    assert all((feed["image"] == IMAGES[row]).all() for feed, row in zip(feeds, rows, strict=True))


def test_a_range_of_batches_can_be_read() -> None:
    reader = ONE.data_reader("x", batch=2)
    reader.set_range(start_index=1, end_index=4)
    assert [len(feed["x"]) for feed in reader] == [2, 2] and len(reader) == 3


@pytest.mark.parametrize(
    ("names", "batch", "message"),
    [
        (["x"], 1, r"input names are \['x'\] and the calibration set has 2 inputs, expected a name of its own for each, in their order"),
        ("image", 1, r"input names are \['image'\] and the calibration set has 2 inputs"),
        (["x", "x"], 1, r"input names are \['x', 'x'\]"),
        (["x", "y"], 0, "batch is 0, expected a whole number of at least 1"),
        (["x", "y"], 2.0, "batch is 2.0, expected a whole number"),
        (["x", "y"], True, "batch is True, expected a whole number"),
        (["x", "y"], "dynamic", "batch is 'dynamic', expected a whole number"),
    ],
)
def test_a_reader_for_another_network_is_refused(names: object, batch: object, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        TWO.data_reader(names, batch=batch)
    with pytest.raises(CalibrationError, match=message):
        TWO.nncf_dataset(names, batch=batch)


def test_nncf_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(Error, match=r"nncf cannot be imported \(.*\), and an nncf.Dataset needs it; run: pip install nncf$"):
        ONE.nncf_dataset()


@pytest.mark.parametrize("method", ["MinMax", "Percentile"])
def test_onnxruntime_quantizes_a_file_of_fixed_batch_and_two_inputs(onnx_file: Path, tmp_path: Path, method: str) -> None:
    needs("onnxruntime")
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, quantize_static

    reader = TWO.data_reader(["image", "size"], batch=2)
    assert isinstance(reader, CalibrationDataReader)
    quantize_static(
        str(onnx_file), str(tmp_path / "int8.onnx"), reader, quant_format=QuantFormat.QDQ, calibrate_method=CalibrationMethod[method],
        extra_options={"CalibStridedMinMax": 1},
    )  # fmt: skip
    assert reader.get_next() is None
    feed = {"image": IMAGES[:2], "size": SIZES[:2]}
    fp32, int8 = (onnxruntime.InferenceSession(str(path)).run(None, feed)[0] for path in (onnx_file, tmp_path / "int8.onnx"))
    assert 0 < np.abs(fp32 - int8).max() < 0.1 * np.abs(fp32).max()


def test_nncf_quantizes_an_openvino_model_by_order_and_by_name(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("nncf", "openvino")
    monkeypatch.setenv("NNCF_CI", "1")  # no usage statistics are sent
    import nncf
    import openvino

    core, feed = openvino.Core(), {"image": IMAGES[:2], "size": SIZES[:2]}
    fp32 = core.compile_model(str(onnx_file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(feed)[0]
    found = []
    for names in (None, ["image", "size"]):
        dataset = TWO.nncf_dataset(names, batch=2)
        assert isinstance(dataset, nncf.Dataset) and dataset.get_length() == 3
        quantized = nncf.quantize(core.read_model(str(onnx_file)), dataset, subset_size=3)
        assert "FakeQuantize" in {operator.get_type_name() for operator in quantized.get_ops()}
        found.append(core.compile_model(quantized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(feed)[0])
    assert (found[0] == found[1]).all() and 0 < np.abs(fp32 - found[0]).max() < 0.1 * np.abs(fp32).max()


def test_items_for_torch_are_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("nncf")
    monkeypatch.setenv("NNCF_CI", "1")
    module = Two()
    items = list(TWO.nncf_dataset(as_torch=True).get_inference_data())
    named = list(TWO.nncf_dataset(["image", "size"], as_torch=True).get_inference_data([4]))
    (single,) = ONE.nncf_dataset(batch=5).get_inference_data()
    with torch.inference_mode():
        assert torch.equal(module(*items[4]), module(**named[0])) and len(items) == 5
    assert isinstance(single, np.ndarray) and (single == IMAGES).all()
