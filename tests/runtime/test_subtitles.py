"""Subtitles: whole cues at every moment, on a time of their own, and nothing but text in them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from srd_edge.errors import RunError, UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.records import Result
from srd_edge.runtime.subtitles import Subtitles, shown, stamp

PIXELS = np.zeros((4, 4, 3), np.uint8)
CUE = re.compile(r"(\d+)\n(\d\d:\d\d:\d\d,\d{3}) --> (\d\d:\d\d:\d\d,\d{3})\n(.+)\n\n", re.ASCII)


def result(time_s: float, caption: str | None = "a dog", **fields: object) -> Result:
    values: dict[str, object] = {"verdict": "clean", "suspicion": 0.1, **fields}
    return Result(frame=0, time_s=time_s, caption=caption, **values)  # type: ignore[arg-type]


def cues(path: Path) -> list[tuple[str, str, str]]:
    """Start, end and text of every cue, if the file is nothing but whole cues in order."""
    text = path.read_text(encoding="utf-8")
    found = CUE.findall(text)
    assert "".join(f"{n}\n{start} --> {end}\n{said}\n\n" for n, start, end, said in found) == text
    assert [number for number, *_ in found] == [str(n) for n in range(1, len(found) + 1)]
    times = [time for _, start, end, _ in found for time in (start, end)]
    assert times == sorted(times)
    return [(start, end, said) for _, start, end, said in found]


def write(
    path: Path, results: list[Result], fps: float | None = 10.0
) -> list[tuple[str, str, str]]:
    """The cues after all of ``results``; the file is whole after each of them, as if killed."""
    sink = Subtitles(path, fps)
    for index, one in enumerate(results):
        sink.write(Frame(PIXELS, index, one.time_s), one)
        if path.exists():
            cues(path)
    sink.close()
    sink.close()
    return cues(path)


def test_a_stretch_of_the_same_caption_is_one_cue(tmp_path: Path) -> None:
    results = [
        *(result(i / 10) for i in range(3)),
        *(result(i / 10, "a dog", verdict="suspicious") for i in (3, 4)),
        result(0.5, None, verdict="held"),
        result(0.6, "ein Hund läuft", verdict="held", held_for=2),
    ]
    assert write(tmp_path / "out.srt", results) == [
        ("00:00:00,000", "00:00:00,300", "a dog"),
        ("00:00:00,300", "00:00:00,500", "[suspicious] a dog"),
        ("00:00:00,600", "00:00:00,700", "[held] ein Hund läuft"),
    ]


def test_an_older_file_is_replaced_when_something_is_said(tmp_path: Path) -> None:
    path = tmp_path / "out.srt"
    path.write_text("an older run" * 99)
    assert write(path, [result(0.0)]) == [("00:00:00,000", "00:00:00,100", "a dog")]
    path.write_text("an older run")
    sink = Subtitles(path)
    sink.write(Frame(PIXELS), result(0.0, None))
    sink.close()
    assert path.read_text() == "an older run"


def test_uneven_frames_leave_no_flicker_and_a_pause_is_one(tmp_path: Path) -> None:
    results = [result(0.0), result(0.9, "a cat"), result(1.0, "a cat"), result(60.0, "a cat")]
    assert write(tmp_path / "out.srt", results) == [
        ("00:00:00,000", "00:00:00,900", "a dog"),
        ("00:00:00,900", "00:00:01,100", "a cat"),
        ("00:01:00,000", "00:01:00,100", "a cat"),
    ]


def test_the_time_of_several_files_goes_on(tmp_path: Path) -> None:
    results = [
        *(result(i / 10, "one", source="a.avi") for i in range(3)),
        *(result(i / 10, "two", source="b.avi") for i in range(3)),
    ]
    assert write(tmp_path / "out.srt", results) == [
        ("00:00:00,000", "00:00:00,300", "one"),
        ("00:00:00,300", "00:00:00,600", "two"),
    ]


def test_pictures_take_as_long_as_in_an_annotated_video(tmp_path: Path) -> None:
    results = [result(0.0, word, source=f"{i}.png") for i, word in enumerate("aab")]
    assert write(tmp_path / "out.srt", results, fps=None) == [
        ("00:00:00,000", "00:00:00,400", "a"),
        ("00:00:00,400", "00:00:00,600", "b"),
    ]
    assert len(write(tmp_path / "one.srt", [result(0.0)], fps=None)) == 1


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("a dog\n\n2\n00:00:00,000 --> 00:00:09,000\nspoofed", None),
        ("<font size=99>x</font>", "‹font size=99›x‹/font›"),
        ("{\\an8}top", "(\\an8)top"),
        ("a\x00b\u2028c\x85d", "a b c d"),
        (" \n\t", ""),
    ],
)
def test_a_caption_is_text_and_no_markup(caption: str, text: str | None) -> None:
    said = shown(result(0.0, caption))
    assert (said or "") == (said if text is None else text)
    assert not re.search(r"[\n<>{}]", said or "")


def test_hours_go_on_counting() -> None:
    assert stamp(0.0) == "00:00:00,000"
    assert stamp(3661.0006) == "01:01:01,001"
    assert stamp(360_000.25) == "100:00:00,250"


def test_what_cannot_be_written_is_refused_up_front(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.srt"):
        Subtitles(tmp_path / "out.txt")
    os.mkfifo(tmp_path / "pipe.srt")
    with pytest.raises(UsageError, match="no file"):
        Subtitles(tmp_path / "pipe.srt")
    with pytest.raises(RunError, match="create the directory"):
        Subtitles(tmp_path / "none" / "out.srt")
    Subtitles(tmp_path / "out.srt").close()
    assert not (tmp_path / "out.srt").exists()


def test_a_full_disk_leaves_whole_cues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, pwrite = tmp_path / "out.srt", os.pwrite
    sink = Subtitles(path, 10.0)
    sink.write(Frame(PIXELS), result(0.0))

    def full(file: int, data: bytes, place: int) -> int:
        if place + len(data) > 60:
            if len(data) < 20:
                raise OSError(28, "No space left on device")
            return pwrite(file, data[:30], place)
        return pwrite(file, data, place)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(RunError, match="No space left"):
        sink.write(Frame(PIXELS, 1, 0.1), result(0.1, "a cat"))
    sink.close()
    assert cues(path) == [("00:00:00,000", "00:00:00,100", "a dog")]
