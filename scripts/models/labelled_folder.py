"""A folder of images that someone labelled: labels.csv, whose columns `file` and `label` name each image and its class."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

TABLE = "labels.csv"
COLUMNS = ("file", "label")


class LabelledFolderError(Exception):
    """A folder that is not one of labelled images; the message is one line for the user."""


def load_labelled_folder(path: Path) -> tuple[list[Image.Image], np.ndarray]:
    """(images in RGB, int64 labels (N,), as they are in the table); both in the order of the table, whose other columns do not matter.

    Hand the images to a network's `preprocessing`; to its `uncropped` when they were cut to squares already.
    LabelledFolderError: no table or an empty one, a column missing, a label that is no class, an image missing or damaged.
    """
    rows = _rows(path / TABLE)
    return [_image(path / file) for file, _ in rows], np.array([label for _, label in rows], np.int64)


def _rows(table: Path) -> list[tuple[str, int]]:
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise LabelledFolderError(f"{table} has the columns {reader.fieldnames or []}, expected {' and '.join(COLUMNS)} among them")
            rows = [(row["file"], _label(table, reader.line_num, row["label"])) for row in reader]
    except FileNotFoundError as error:
        raise LabelledFolderError(f"{table} does not exist; name a folder with images and their {TABLE}") from error
    except UnicodeDecodeError as error:
        raise LabelledFolderError(f"{table} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    if not rows:
        raise LabelledFolderError(f"{table} has no rows, expected one for every image")
    return rows


def _label(table: Path, line: int, text: str | None) -> int:
    if text is None or not text.strip().isdecimal():
        raise LabelledFolderError(f"{table}, line {line}: label is {text!r}, expected a class as a whole number from 0")
    return int(text)


def _image(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError as error:
        raise LabelledFolderError(f"{path} does not exist, and {TABLE} names it; add it, or remove its row") from error
    except OSError as error:
        raise LabelledFolderError(f"{path} is no image that can be read; replace it, or remove its row from {TABLE}") from error
