"""Labelled images: CIFAR-10 and photos of the cache, and a folder of the user's own. The files here are made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.models.cifar10 import load_cifar10
from scripts.models.fetch import FetchError
from scripts.models.labelled_folder import LabelledFolderError, load_labelled_folder
from scripts.models.photos import load_photos50
from tests.scripts.cifar10_files import random_records, write_cifar10


@pytest.mark.parametrize("split, count", [("train", 12), ("test", 3)])
def test_cifar10_comes_in_the_order_of_its_files(tmp_path: Path, split: str, count: int) -> None:
    records = random_records(count)
    write_cifar10(tmp_path, records, split)
    images, labels = load_cifar10(split, tmp_path)
    assert images.shape == (count, 3, 32, 32) and images.dtype == np.uint8 and labels.dtype == np.int64
    np.testing.assert_array_equal(labels, records[:, 0])
    assert images[2, 1, 3, 4] == records[2, 1 + 1024 + 3 * 32 + 4]  # a green value


def test_cifar10_that_is_absent_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="data_batch_1.bin.*scripts/fetch_models cifar10"):
        load_cifar10("train", tmp_path)
    with pytest.raises(FetchError, match="'valid', expected one of train, test"):
        load_cifar10("valid", tmp_path)


def test_cifar10_that_is_damaged_is_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path, random_records(3), "test")
    file = tmp_path / "cifar10" / "test_batch.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(FetchError, match="multiple of 3073"):
        load_cifar10("test", tmp_path)
    file.write_bytes(bytes([10]) + whole[1:])
    with pytest.raises(FetchError, match="label 10, expected 0 to 9"):
        load_cifar10("test", tmp_path)


def test_fifty_photos_carry_their_labels_in_their_names(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="scripts/fetch_models photos50"):
        load_photos50(tmp_path)
    (tmp_path / "photos50").mkdir()
    for name, value in (("ffee_0637", 1), ("00aa_0008", 2)):
        Image.new("RGBA", (4, 6), (value, 0, 0, 255)).save(tmp_path / "photos50" / f"{name}.png")
    images, labels = load_photos50(tmp_path)
    np.testing.assert_array_equal(labels, [8, 637])
    assert [image.getpixel((0, 0)) for image in images] == [(2, 0, 0), (1, 0, 0)]


def write_folder(folder: Path, table: str) -> Path:
    for name, value in (("a.jpg", 200), ("b.jpg", 100)):
        Image.new("L", (8, 8), value).save(folder / name)
    (folder / "labels.csv").write_text(table, encoding="utf-8")
    return folder


def test_a_labelled_folder_comes_in_the_order_of_its_table(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, 'license,label,file\n"by, 2.0",12,b.jpg\nby,7,a.jpg\n')
    images, labels = load_labelled_folder(folder)
    assert labels.dtype == np.int64 and labels.tolist() == [12, 7]
    assert [image.mode for image in images] == ["RGB", "RGB"]
    assert images[0].getpixel((0, 0))[0] == pytest.approx(100, abs=2)


@pytest.mark.parametrize(
    "table, message",
    [
        ("file,class\na.jpg,3\n", r"columns \['file', 'class'\], expected file and label"),
        ("", r"columns \[\]"),
        ("file,label\n", "no rows"),
        ("file,label\na.jpg,3\nb.jpg,cat\n", "line 3: label is 'cat'"),
        ("file,label\na.jpg,-1\n", "line 2: label is '-1'"),
        ("file,label\na.jpg\n", "line 2: label is None"),
        ("file,label\nc.jpg,1\n", "c.jpg does not exist"),
        ("file,label\nlabels.csv,1\n", "labels.csv is no image"),
    ],
)
def test_a_labelled_folder_with_a_fault_is_refused_in_one_line(tmp_path: Path, table: str, message: str) -> None:
    folder = write_folder(tmp_path, table)
    with pytest.raises(LabelledFolderError, match=message) as error:
        load_labelled_folder(folder)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelledFolderError, match="labels.csv does not exist"):
        load_labelled_folder(tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"file,label\n\xff,1\n")
    with pytest.raises(LabelledFolderError, match="not UTF-8"):
        load_labelled_folder(tmp_path)
