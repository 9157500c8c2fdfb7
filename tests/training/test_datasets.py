"""A folder with captions.csv is read as it stands, or refused with one line that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from srd_edge.errors import DatasetError, SourceError, UsageError
from srd_edge.training.datasets import open_dataset

TABLE = """image,caption_id,caption,split
red one.png,0,"A red wall , quite red .",train
blue.png,0,A blue wall,dev
red one.png,1,RED,train
green.png,0,A green wall.,train
"""
COLOURS = {"red one.png": (255, 0, 0), "blue.png": (0, 0, 255), "green.png": (0, 255, 0)}


def write(directory: Path, table: str | bytes = TABLE, images: str = "images") -> Path:
    (directory / images).mkdir(parents=True, exist_ok=True)
    data = table.encode() if isinstance(table, str) else table
    (directory / "captions.csv").write_bytes(data)
    for name, colour in COLOURS.items():
        picture = np.full((4, 6, 3), colour[::-1], np.uint8)
        cv2.imwrite(str(directory / images / name), picture)
    return directory


@pytest.mark.parametrize("images", ["images", "."])
def test_a_folder_with_captions(tmp_path: Path, images: str) -> None:
    directory = write(tmp_path / "my data", images=images)
    samples = open_dataset(str(directory), "train")
    assert [(s.name, s.captions) for s in samples] == [
        ("red one.png", ("a red wall , quite red", "red")),
        ("green.png", ("a green wall",)),
    ]
    for sample in samples:
        assert sample.load().shape == (4, 6, 3)
        assert (sample.load() == COLOURS[sample.name]).all()
    assert [s.name for s in open_dataset(str(directory), "dev")] == ["blue.png"]
    assert len(open_dataset(str(directory), "train", limit=1)) == 1


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ("", "no header"),
        ("image,caption,split\na.png,a cat,train\n", "image, caption, split"),
        ("image,caption_id,caption,split\n", "none"),
        (TABLE.replace("train", "test"), "none"),
        ("image,split,caption_id,caption\na.png,train,0\n", "line 2"),
        (TABLE.encode().replace(b"quite", b"\xff\xfe"), "UTF-8"),
        ("image,caption_id,caption,split\nred one.png,0, . ,train\n", "line 2, for red one.png"),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path: Path, table: str | bytes, found: str) -> None:
    with pytest.raises(DatasetError, match=found) as caught:
        open_dataset(str(write(tmp_path, table)), "train")
    assert "\n" not in str(caught.value)
    assert "captions.csv" in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path: Path) -> None:
    directory = write(tmp_path, b"\xef\xbb\xbf" + TABLE.encode())
    assert len(open_dataset(str(directory), "train")) == 2


@pytest.mark.parametrize("spec", ["nowhere", "captions.csv", ""])
def test_no_such_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=r"no .*captions\.csv") as caught:
        open_dataset(spec, "train")
    assert caught.value.exit_code == 4


def test_no_such_split() -> None:
    split: Any = "validation"
    with pytest.raises(UsageError, match="validation"):
        open_dataset("scenes", split)


def test_missing_pictures_are_found_when_the_data_set_is_opened(tmp_path: Path) -> None:
    directory = write(tmp_path)
    (directory / "images" / "green.png").unlink()
    with pytest.raises(DatasetError, match=r"1 of 2 missing, such as green\.png") as caught:
        open_dataset(str(directory), "train")
    assert "\n" not in str(caught.value)
    assert len(open_dataset(str(directory), "dev")) == 1, "of another split"


@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_a_broken_picture_is_named_when_it_is_read(tmp_path: Path, content: bytes) -> None:
    directory = write(tmp_path)
    (directory / "images" / "green.png").write_bytes(content)
    broken = open_dataset(str(directory), "train")[1]
    with pytest.raises(SourceError, match=r"green\.png"):
        broken.load()
