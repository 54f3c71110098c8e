from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from report_sample import report_data

from tvm_rsq.errors import ArtifactError
from tvm_rsq.report import png, serialise

FIELDS = ("network", "target", "plan", "image_source", "loss_curve", "histograms", "layer_times", "latencies", "fidelity",
          "weight_bytes_before", "weight_bytes_after", "facts", "notes")  # fmt: skip


def test_round_trip_through_json_text():
    data = report_data(layers=5)
    back = serialise.from_dict(json.loads(json.dumps(serialise.to_dict(data))))
    for name in FIELDS:
        assert getattr(back, name) == getattr(data, name), name
    np.testing.assert_array_equal(back.images, data.images)
    assert back.images.dtype == np.uint8


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_lossless(channels):
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, channels), np.uint8)
    np.testing.assert_array_equal(png.decode(png.encode(picture)), picture)


def test_another_reader_sees_the_same_picture():
    image = pytest.importorskip("PIL.Image")
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    with image.open(io.BytesIO(base64.b64decode(png.encode(picture)))) as opened:
        np.testing.assert_array_equal(np.asarray(opened), picture)


def test_a_flipped_bit_is_noticed():
    data = bytearray(base64.b64decode(png.encode(np.zeros((4, 4, 3), np.uint8))))
    data[45] ^= 1
    with pytest.raises(ArtifactError, match="checksum"):
        png.decode(base64.b64encode(bytes(data)).decode())


@pytest.mark.parametrize("picture", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 2), np.uint8)])
def test_other_pictures_are_refused(picture):
    with pytest.raises(ValueError, match="expected uint8"):
        png.encode(picture)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "schema 99"),
        ({"images": ["%%%"]}, "picture"),
        ({"images": ["aGVsbG8="]}, "picture"),
        ({"plan": {}}, "damaged"),
        ({"latencies": [{"build": "x"}]}, "damaged"),
        ({"histograms": 3}, "damaged"),
    ],
)
def test_damage_is_an_artifact_error(change, message):
    record = serialise.to_dict(report_data(layers=2)) | change
    with pytest.raises(ArtifactError, match=message):
        serialise.from_dict(record)


def test_a_missing_part_is_an_artifact_error():
    record = serialise.to_dict(report_data(layers=2))
    del record["notes"]
    with pytest.raises(ArtifactError, match="notes"):
        serialise.from_dict(record)
