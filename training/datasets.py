"""Data sets: the built-in scenes and a folder with captions.csv, read into samples."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from srd_edge.attacks.samples import Sample, normalise_caption
from srd_edge.errors import DatasetError, UsageError
from srd_edge.runtime.pictures import read_picture
from srd_edge.training.scene_captions import caption_scene
from srd_edge.training.scenes import draw_scene, sample_scene

Split: TypeAlias = Literal["train", "dev", "test"]
SCENE_COUNTS: Final[dict[Split, int]] = {"train": 12_000, "dev": 600, "test": 600}
_COLUMNS: Final = ("image", "caption_id", "caption", "split")


def open_dataset(spec: str, split: Split, limit: int | None = None) -> tuple[Sample, ...]:
    """Open one split of a data set.

    Args:
        spec: ``scenes``, or a directory with captions.csv (image, caption_id, caption, split) and
            the pictures in it or in its folder ``images``.
        split: train, dev or test.
        limit: take the first so many pictures.

    Raises:
        DatasetError: when the directory is not such a data set, the split is empty, or a picture
            or a caption of it is missing.
    """
    if split not in get_args(Split):
        raise UsageError(
            expected="a split out of train, dev, test", found=repr(split), do="choose one of them"
        )
    samples = _scenes(split, limit) if spec == "scenes" else _captions_csv(Path(spec), split)
    return tuple(samples[:limit])


def _scenes(split: Split, limit: int | None) -> list[Sample]:
    first = sum(SCENE_COUNTS[s] for s in get_args(Split)[: get_args(Split).index(split)])
    count = min(SCENE_COUNTS[split], limit or SCENE_COUNTS[split])
    samples = []
    for number in range(first, first + count):
        scene = sample_scene(np.random.default_rng([2506, number]))
        samples.append(
            Sample(f"scene-{number:06d}", caption_scene(scene), partial(draw_scene, scene))
        )
    return samples


def _captions_csv(directory: Path, split: Split) -> Sequence[Sample]:
    table = directory / "captions.csv"
    if not table.is_file():
        raise DatasetError(
            expected="`scenes` or a directory with captions.csv",
            found=f"no {table}",
            do="give the directory that holds captions.csv and the pictures",
        )
    try:
        captions = _read_captions(table, split)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            expected=f"{table} as comma-separated values in UTF-8",
            found=str(error),
            do="save it in that form",
        ) from error
    if not captions:
        raise DatasetError(
            expected=f"pictures of the split {split} in {table}",
            found="none",
            do="check the column",
        )
    images = directory / "images" if (directory / "images").is_dir() else directory
    missing = [name for name in captions if not (images / name).is_file()]
    if missing:
        raise DatasetError(
            expected=f"every picture of the split {split} in {images}",
            found=f"{len(missing)} of {len(captions)} missing, such as {missing[0]}",
            do=f"add them, or remove their lines from {table.name}",
        )
    return [
        Sample(name, tuple(texts), partial(read_picture, images / name))
        for name, texts in captions.items()
    ]


def _read_captions(table: Path, split: Split) -> dict[str, list[str]]:
    """The captions of every picture of ``split``, in the order of the table."""
    captions: dict[str, list[str]] = {}
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not set(_COLUMNS) <= set(reader.fieldnames or ()):
            raise DatasetError(
                expected=f"{table} with the columns {', '.join(_COLUMNS)}",
                found=", ".join(reader.fieldnames or ["no header"]),
                do="rename or add the columns",
            )
        for row in reader:
            if None in row.values():
                raise DatasetError(
                    expected=f"a value in every column of {table}",
                    found=f"line {reader.line_num} ends early",
                    do="complete the line, and quote captions that hold a comma",
                )
            if row["split"] != split:
                continue
            caption = normalise_caption(row["caption"])
            if not caption:
                raise DatasetError(
                    expected=f"a caption on every line of {table}",
                    found=f"an empty one on line {reader.line_num}, for {row['image']}",
                    do="write one, or remove the line",
                )
            captions.setdefault(row["image"], []).append(caption)
    return captions
