"""Annotated video decodes again, and says when it could not be written."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from srd_edge.errors import RunError, UsageError
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.annotate import annotate
from srd_edge.runtime.annotated_video import CODECS, AnnotatedVideo, letterbox
from srd_edge.runtime.containers import is_finished
from srd_edge.runtime.outputs import open_sinks
from srd_edge.runtime.run_config import RunConfig
from srd_edge.runtime.sources import open_sources
from tests.runtime.some_results import frame, result


def decode(path: Path) -> list[Pixels]:
    capture, pictures = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    while (read := capture.read())[0]:
        pictures.append(np.asarray(read[1][..., ::-1], np.uint8))
    return pictures


@pytest.mark.parametrize("meanwhile", [False, True])
@pytest.mark.parametrize("suffix", CODECS)
def test_the_video_decodes_to_as_many_frames(tmp_path: Path, suffix: str, meanwhile: bool) -> None:
    path = tmp_path / f"ü out{suffix}"
    sink = AnnotatedVideo(path, 10.0, meanwhile=meanwhile)
    for index in range(12):
        sink.write(frame(index, value=index * 20), result(index))
    sink.close()
    sink.close()
    pictures = decode(path)
    assert len(pictures) == 12
    for index, picture in enumerate(pictures):
        assert picture.shape == annotate(frame(), result()).shape
        assert abs(int(picture[100:200, 100:200].mean()) - index * 20) < 12


@pytest.mark.parametrize("suffix", CODECS)
def test_a_video_is_finished_when_its_writer_came_to_the_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    sink = AnnotatedVideo(path)
    for index in range(3):
        sink.write(frame(index), result(index))
    assert not is_finished(path)
    sink.close()
    assert is_finished(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert not is_finished(path)


def test_frames_of_other_sizes_are_letterboxed(tmp_path: Path) -> None:
    path = tmp_path / "out.avi"
    sink = AnnotatedVideo(path)
    for index, (width, height) in enumerate([(64, 48), (48, 64), (800, 30), (1, 1)]):
        sink.write(frame(index, width, height), result(index, raw_caption="x" if index else None))
    sink.close()
    assert {picture.shape for picture in decode(path)} == {annotate(frame(), result()).shape}
    tall = letterbox(np.full((200, 50, 3), 255, np.uint8), 100, 100)
    assert tall.shape == (100, 100, 3)
    assert tall[:, :35].max() == 0 < tall[50, 50].min()


def test_a_video_needs_a_known_suffix_and_a_frame(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.webm"):
        AnnotatedVideo(tmp_path / "out.gif")
    AnnotatedVideo(tmp_path / "out.webm").close()
    assert not (tmp_path / "out.webm").exists()


def test_a_video_that_lost_its_end_is_a_run_error(tmp_path: Path) -> None:
    path = tmp_path / "out.webm"
    sink = AnnotatedVideo(path, 10.0)
    sink.write(frame(), result())
    path.unlink()
    path.touch()
    with pytest.raises(RunError, match="cut off"):
        sink.close()


def test_a_missing_encoder_is_not_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CODECS, ".webm", "none")
    with pytest.raises(RunError, match="none encoder") as caught:
        AnnotatedVideo(tmp_path / "out.webm").write(frame(), result())
    assert "space" not in caught.value.do
    assert ".avi" in caught.value.do


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and the disk is full."""
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    return lambda: monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


@pytest.mark.parametrize(("meanwhile", "late"), [(False, 0), (True, 2)])
def test_a_full_disk_is_told_once_and_soon(
    tmp_path: Path, full: Callable[[], None], meanwhile: bool, late: int
) -> None:
    path = tmp_path / "out.webm"
    sink = AnnotatedVideo(path, 10.0, meanwhile=meanwhile)
    for index in range(3):
        sink.write(frame(index), result(index))
    sink._settle(0)
    full()
    for index in range(late):
        sink.write(frame(3 + index), result(3 + index))
    with pytest.raises(RunError, match="full disk"):
        sink.write(frame(9), result(9))
    sink.close()
    assert len(decode(path)) == 3


def test_a_full_disk_at_the_end_is_told_when_it_is_closed(
    tmp_path: Path, full: Callable[[], None]
) -> None:
    sink = AnnotatedVideo(tmp_path / "out.webm", 10.0, meanwhile=True)
    full()
    sink.write(frame(), result())
    with pytest.raises(RunError, match="full disk"):
        sink.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("srd-edge encoder")]


def test_captioning_goes_on_while_a_picture_is_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        begun.set()
        assert go_on.wait(60)

    monkeypatch.setattr(AnnotatedVideo, "_encode", slow)
    sink = AnnotatedVideo(tmp_path / "out.webm", 10.0, meanwhile=True)
    sink.write(frame(0), result(0))
    sink.write(frame(1), result(1))
    assert begun.wait(60)
    assert len(sink._waiting) == 2
    go_on.set()
    sink._settle(0)


@pytest.mark.parametrize("budget_ms", [None, 50.0])
def test_a_budget_has_the_cores_to_itself(tmp_path: Path, budget_ms: float | None) -> None:
    video = str(tmp_path / "out.webm")
    config = RunConfig(("demo",), annotate=video, budget_ms=budget_ms)
    with open_sources(config.sources) as source:
        (sink,) = open_sinks(config, source, print)
    assert isinstance(sink, AnnotatedVideo)
    assert (sink._thread is None) is (budget_ms is not None)
