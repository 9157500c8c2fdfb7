"""Sinks: whole JSON lines, a video that decodes again, and pictures with everything on them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from srd_edge.errors import RunError, UsageError
from srd_edge.kernels.frames import Box, Frame, Pixels
from srd_edge.runtime.annotate import MAX_SIDE_PX, MIN_WIDTH_PX, annotate
from srd_edge.runtime.containers import is_finished
from srd_edge.runtime.lettering import Pen
from srd_edge.runtime.records import AppliedAction, Result
from srd_edge.runtime.sinks import CODECS, AnnotatedVideo, JsonLines, NoReaderError, letterbox


def frame(index: int = 0, width: int = 64, height: int = 48, value: int = 90) -> Frame:
    return Frame(np.full((height, width, 3), value, np.uint8), index, index / 10)


def result(index: int = 0, caption: str | None = "a dog on a lawn", **fields: object) -> Result:
    values: dict[str, object] = {"verdict": "clean", "suspicion": 0.25, **fields}
    return Result(frame=index, time_s=index / 10, caption=caption, **values)  # type: ignore[arg-type]


def test_json_lines_are_the_results(tmp_path: Path) -> None:
    path = tmp_path / "ü out.jsonl"
    path.write_text("an older run\n" * 99)
    sink = JsonLines(path)
    for index in range(3):
        sink.write(frame(index), result(index, "ein Hund läuft"))
        lines = path.read_text().splitlines()
        assert len(lines) == index + 1  # on disk before the next frame
        assert json.loads(lines[-1]) == result(index, "ein Hund läuft").to_json()
    sink.close()
    sink.close()


def test_json_lines_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    sink = JsonLines("-")
    sink.write(frame(), result())
    sink.close()
    assert json.loads(capsys.readouterr().out) == result().to_json()
    print("still open")


@pytest.mark.parametrize("make", [JsonLines, AnnotatedVideo])
def test_what_cannot_be_written_is_refused_up_front(tmp_path: Path, make: type) -> None:
    with pytest.raises(RunError, match="create the directory first"):
        make(tmp_path / "none" / "out.webm")
    (tmp_path / "folder.webm").mkdir()
    with pytest.raises(RunError, match="directory"):
        make(tmp_path / "folder.webm")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_a_run_error() -> None:
    sink = JsonLines("/dev/full")
    with pytest.raises(RunError, match="No space left"):
        sink.write(frame(), result())
    sink.close()


def test_a_reader_that_has_gone_is_no_failure_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(NoReaderError):
        JsonLines("-").write(frame(), result())


@pytest.mark.parametrize("make", [JsonLines, AnnotatedVideo])
def test_nothing_is_touched_before_the_first_frame(
    tmp_path: Path, make: type[JsonLines] | type[AnnotatedVideo]
) -> None:
    path, link = tmp_path / "out.webm", tmp_path / "link.webm"
    make(path).close()
    assert not path.exists()
    path.write_text("an older run")
    make(path).close()
    assert path.read_text() == "an older run"
    path.unlink()
    link.symlink_to(path)
    make(link).close()
    assert link.is_symlink()
    assert not path.exists()
    sink = make(path)
    path.write_text("an older run")
    sink.write(frame(), result())
    sink.close()
    assert b"an older run" not in path.read_bytes()


def test_a_pipe_is_not_opened_to_try_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    JsonLines(pipe).close()  # opening it would wait for a reader
    assert pipe.is_fifo()


def test_a_missing_encoder_is_not_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CODECS, ".webm", "none")
    with pytest.raises(RunError, match="none encoder") as caught:
        AnnotatedVideo(tmp_path / "out.webm").write(frame(), result())
    assert "space" not in caught.value.do
    assert ".avi" in caught.value.do


def test_a_killed_run_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    code = (
        "import sys, itertools, numpy as np\n"
        "from srd_edge.kernels.frames import Frame\n"
        "from srd_edge.runtime.records import Result\n"
        "from srd_edge.runtime.sinks import JsonLines\n"
        "sink, frame = JsonLines(sys.argv[1]), Frame(np.zeros((1, 1, 3), np.uint8))\n"
        "for index in itertools.count():\n"
        "    sink.write(frame, Result(index, 0.0, 'word ' * 500, 'clean', 0.0))\n"
        "    if index == 99: print('going', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    data = path.read_bytes()
    assert data.endswith(b"\n")
    assert [json.loads(line)["frame"] for line in data.splitlines()] == list(
        range(data.count(b"\n"))
    )


def decode(path: Path) -> list[Pixels]:
    capture, pictures = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    while (read := capture.read())[0]:
        pictures.append(np.asarray(read[1][..., ::-1], np.uint8))
    return pictures


@pytest.mark.parametrize("suffix", CODECS)
def test_the_video_decodes_to_as_many_frames(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ü out{suffix}"
    sink = AnnotatedVideo(path, 10.0)
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


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (64, 48), (641, 333), (4000, 3000), (30, 900), (900, 3)]
)
def test_annotated_pictures_are_even_and_readable(width: int, height: int) -> None:
    given = frame(width=width, height=height)
    before = given.pixels.copy()
    box = Box(0, 0, max(width // 2, 1), height)
    noisy = result(actions=(AppliedAction("noise", box, 1.0),))
    picture = annotate(given, noisy)
    assert picture.dtype == np.uint8
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
    assert MIN_WIDTH_PX <= picture.shape[1] <= MAX_SIDE_PX
    np.testing.assert_array_equal(given.pixels, before)
    # The layout depends on nothing but the frame's size and on whether captions are compared.
    assert picture.shape == annotate(given, result(caption=None, verdict="held")).shape
    compared = annotate(given, result(raw_caption="a banana"))
    assert compared.shape == annotate(given, result(), compare=True).shape
    assert compared.shape[0] > picture.shape[0]


def test_the_band_hides_nothing_of_the_frame() -> None:
    given = frame(width=640, height=360, value=200)
    picture = annotate(given, result())
    np.testing.assert_array_equal(picture[:357], given.pixels[:357])
    assert picture[370:].mean() < 60


def has_colour(picture: Pixels, colour: tuple[int, int, int]) -> bool:
    return bool((picture == colour).all(axis=2).any())


def has_orange(picture: Pixels) -> bool:
    """Whether anything is in the raw caption's colour; thin letters may not reach all of it."""
    red, green, blue = (picture[..., channel].astype(int) for channel in range(3))
    return bool(((red > 200) & (green > 120) & (green < 190) & (blue < 130)).any())


def test_verdicts_and_the_raw_caption_have_colours_of_their_own() -> None:
    badges = {"clean": (35, 134, 54), "suspicious": (214, 84, 20), "held": (106, 112, 122)}
    for verdict in badges:
        picture = annotate(frame(), result(verdict=verdict, raw_caption="a banana"))
        shown = {name for name, colour in badges.items() if has_colour(picture, colour)}
        assert shown == {verdict}
        assert has_orange(picture)
    assert not has_orange(annotate(frame(), result(raw_caption="a dog on a lawn")))


def test_without_a_defence_nothing_is_called_clean() -> None:
    undefended = result(verdict="undefended", suspicion=None)
    assert undefended.to_json()["suspicion"] is None
    picture = annotate(frame(), undefended)
    assert has_colour(picture, (106, 112, 122))
    assert not has_colour(picture, (35, 134, 54))
    assert picture.shape == annotate(frame(), result()).shape


def test_regional_actions_are_boxed_and_named_whole_ones_are_not() -> None:
    given = frame(width=640, height=360)
    box = Box(400, 100, 500, 200)
    regional = annotate(given, result(actions=(AppliedAction("occlude", box, 1.0),)))
    yellow = (regional[:350] == (255, 214, 10)).all(axis=2)
    rows, columns = np.nonzero(yellow)
    assert abs(int(rows.max()) - 199) <= 2
    assert abs(int(columns.max()) - 499) <= 2
    assert abs(int(columns.min()) - 400) <= 2
    assert rows.min() < 90  # the label stands above the box
    whole = AppliedAction("median", Box(0, 0, 640, 360), 5.0)
    picture = annotate(given, result(actions=(whole,)))
    np.testing.assert_array_equal(picture[:357], given.pixels[:357])
    assert (picture[357:] != annotate(given, result())[357:]).any()


@pytest.mark.parametrize(
    "text",
    ["a dog", "a dog and " * 9, "a dog and " * 200, "x" * 500, "", "line\none\x00 two", "犬 " * 80],
)
def test_captions_are_wrapped_and_never_cut_at_the_edge(text: str) -> None:
    pen = Pen(np.zeros((10, 640, 3), np.uint8), 1.0)
    lines, scale = pen.fit(text, 600, 2, 0.68)
    assert 1 <= len(lines) <= 2
    assert all(pen.width(line, scale) <= 600 for line in lines)
    said = " ".join(text.replace("\n", " ").replace("\0", " ").split())
    whole = " ".join(lines).strip() == said
    assert whole or lines[-1].endswith("...")
    picture = annotate(frame(), result(caption=text, raw_caption=text))
    margin = picture[picture.shape[0] - 120 :, -10:]
    assert (margin == (22, 25, 30)).all()
