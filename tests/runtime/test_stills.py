"""Annotated pictures: whole files under the right names, and nothing else touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from srd_edge.errors import RunError, UsageError
from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.runtime.annotate import annotate
from srd_edge.runtime.records import Result
from srd_edge.runtime.stills import AnnotatedPicture, AnnotatedPictures, form_of

FRAME = Frame(np.full((48, 64, 3), (200, 90, 30), np.uint8))
RESULT = Result(0, 0.0, "a dog on a lawn", "clean", 0.25)


def read(path: Path) -> Pixels:
    picture = cv2.imread(str(path))
    assert picture is not None
    return np.asarray(picture[..., ::-1], np.uint8)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("out.webm", "video"),
        ("out.PNG", "picture"),
        ("out.jpeg", "picture"),
        ("new/", "folder"),
        ("new.webm/", "folder"),
        ("there.png", "folder"),
    ],
)
def test_the_name_says_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.png").mkdir()
    assert form_of(name) == form


@pytest.mark.parametrize("name", ["out.gif", "out", ""])
def test_another_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.png"):
        form_of(str(tmp_path / "none" / name) if name else "none")


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "OUT.JPEG"])
def test_the_picture_is_the_first_frame(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sink = AnnotatedPicture(path)
    assert names(tmp_path) == []
    sink.write(FRAME, RESULT)
    sink.write(Frame(np.zeros((9, 9, 3), np.uint8), 1), replace(RESULT, frame=1))
    sink.close()
    sink.close()
    assert names(tmp_path) == [name]
    picture, expected = read(path), annotate(FRAME, RESULT)
    assert picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected).mean() < (2 if "png" not in name else 1e-9)


def test_an_older_picture_outlives_a_write_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.png"
    path.write_text("an older run")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match="No space left"):
        AnnotatedPicture(path).write(FRAME, RESULT)
    assert names(tmp_path) == ["out.png"]
    assert path.read_text() == "an older run"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "behind").mkdir()
    path, link = tmp_path / "behind" / "out.png", tmp_path / "link.png"
    link.symlink_to(path)
    AnnotatedPicture(link).write(FRAME, RESULT)
    assert link.is_symlink()
    assert names(tmp_path / "behind") == ["out.png"]


@pytest.mark.parametrize("name", ["none/out.png", "none/new/", "file/"])
def test_what_cannot_be_written_is_refused_up_front(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError):
        if name.endswith("/"):
            AnnotatedPictures(tmp_path / name, only="x.jpg")
        else:
            AnnotatedPicture(tmp_path / name)
    assert names(tmp_path) == ["file"]


def written(folder: Path, sources: list[str], reserved: tuple[Path, ...] = ()) -> list[str]:
    """The names that one frame from each of ``sources`` gets, in order."""
    sink, found = AnnotatedPictures(folder, only="only.jpg", reserved=reserved), []
    for index, source in enumerate(sources):
        before = set(names(folder)) if folder.exists() else set()
        sink.write(Frame(FRAME.pixels, index), replace(RESULT, frame=index, source=source or None))
        found += sorted(set(names(folder)) - before)
    sink.close()
    return found


def test_pictures_are_named_after_their_files(tmp_path: Path) -> None:
    sources = ["a/dog.jpg", "b/dog.jpeg", "DOG.png", "dog-000001.png", "", "clip.mp4", "clip.mp4"]
    assert written(tmp_path / "new", sources) == [
        "dog.png",
        "dog-000001.png",
        "DOG-000002.png",
        "dog-000001-000003.png",
        "only.png",
        "clip-000005.png",
        "clip-000006.png",
    ]
    again = AnnotatedPictures(tmp_path / "new", only="x.jpg")
    again.write(FRAME, replace(RESULT, source="a/dog.jpg"))
    assert len(names(tmp_path / "new")) == 7  # the same names again


def test_names_that_are_too_long_or_no_text(tmp_path: Path) -> None:
    (name,) = written(tmp_path / "long", ["ü" * 120 + ".jpg"])
    assert name.startswith("ü" * 99)
    assert written(tmp_path / "odd", ["\udcff.jpg"]) == ["\udcff.png"]


def test_nothing_reserved_is_overwritten(tmp_path: Path) -> None:
    folder, kept = tmp_path / "out", tmp_path / "kept.png"
    folder.mkdir()
    kept.write_text("kept")
    (folder / "dog.png").symlink_to(kept)
    assert written(folder, ["a/dog.jpg"], (kept.resolve(),)) == ["dog-000000.png"]
    assert kept.read_text() == "kept"


def test_a_folder_that_is_never_written_is_not_made(tmp_path: Path) -> None:
    AnnotatedPictures(tmp_path / "new", only="x.jpg").close()
    assert names(tmp_path) == []
