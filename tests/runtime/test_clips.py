"""Video files: whole ones come whole, cut-off ones give what they have and say so."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from srd_edge.errors import SourceError
from srd_edge.runtime.sources import open_source
from tests.runtime.reading import assert_refused, cut, read_all

SHARED = Path(os.environ.get("SRD_EDGE_SHARED", Path(__file__).parents[3] / "shared"))
WriteClip = Callable[..., Path]


def grey(index: int) -> int:
    """Brightness that tells frame ``index`` from its neighbours, lossy codecs or not."""
    return 20 + index * 37 % 200


def test_bad_clips_are_refused(write_clip: WriteClip, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is no video\n" * 50)
    assert_refused(tmp_path / "text.mp4", "no video")
    (tmp_path / "empty.mp4").touch()
    assert_refused(tmp_path / "empty.mp4", "an empty file")
    assert_refused(write_clip(tmp_path / "none.avi", frames=0), "at least one frame")
    assert_refused(cut(write_clip(tmp_path / "tail.mp4"), 0.6), "cut off", "moov")


@pytest.mark.parametrize("suffix", [".webm", ".avi", ".mkv"])
def test_a_cut_off_clip_gives_what_it_has_then_says_so(
    write_clip: WriteClip, tmp_path: Path, suffix: str
) -> None:
    path = cut(write_clip(tmp_path / f"clip{suffix}", frames=90), 0.5)
    seen: list[int] = []
    with open_source(str(path)) as source, pytest.raises(SourceError) as caught:
        seen.extend(item.frame.index for item in source)
    assert 20 < len(seen) < 70
    assert seen == list(range(len(seen)))
    assert f"expected 90 frames in '{path}', found {len(seen)}: the file is cut off" in str(
        caught.value
    )


def test_a_cut_off_mp4_with_its_index_in_front(write_clip: WriteClip, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", frames=60)
    data = path.read_bytes()
    boxes, position = {}, 0
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        boxes[data[position + 4 : position + 8]] = data[position : position + length]
        position += length
    # Moving the index before the data shifts every chunk offset in it by its own length.
    moov = bytearray(boxes[b"moov"])
    at = moov.index(b"stco") + 8
    (entries,) = struct.unpack_from(">I", moov, at)
    for entry in range(entries):
        (offset,) = struct.unpack_from(">I", moov, at + 4 + 4 * entry)
        struct.pack_into(">I", moov, at + 4 + 4 * entry, offset + len(moov))
    rest = b"".join(box for kind, box in boxes.items() if kind not in (b"ftyp", b"moov"))
    path.write_bytes(boxes[b"ftyp"] + moov + rest)
    assert len(read_all(path)) == 60
    assert_refused(cut(path, 0.7), "60 frames", "cut off")


def test_stopping_before_the_cut_is_no_error(write_clip: WriteClip, tmp_path: Path) -> None:
    path = cut(write_clip(tmp_path / "clip.webm", frames=90), 0.5)
    assert len(read_all(path, max_frames=10)) == 10


def test_a_clip_whose_size_changes_keeps_its_first_size(tmp_path: Path) -> None:
    jpegs = []
    for index in range(12):
        size = (96, 64) if index < 6 else (160, 60)
        picture = np.full((size[1], size[0], 3), grey(index), np.uint8)
        jpegs.append(cv2.imencode(".jpg", picture)[1].tobytes())
    path = tmp_path / "changes.mjpeg"
    path.write_bytes(b"".join(jpegs))
    items = read_all(path)
    assert [item.frame.pixels.shape for item in items] == [(64, 96, 3)] * 12
    for item in items:
        assert abs(int(item.frame.pixels.mean()) - grey(item.frame.index)) <= 4


REAL_CLIPS = sorted((SHARED / "data" / "videos").glob("*.mp4"))


@pytest.mark.skipif(not REAL_CLIPS, reason=f"no clips in {SHARED}/data/videos (SRD_EDGE_SHARED)")
@pytest.mark.parametrize("path", REAL_CLIPS, ids=lambda path: path.stem)
def test_real_clips_come_whole(path: Path) -> None:
    capture, sums = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        sums.append(int(read[1][::8, ::8].sum()))
    with open_source(str(path)) as source:
        assert source.frames == len(sums)
        items = [
            (i.frame.index, int(i.frame.pixels[::8, ::8].sum()), i.frame.time_s) for i in source
        ]
    assert [item[:2] for item in items] == list(enumerate(sums))
    times = [item[2] for item in items]
    assert times == sorted(set(times))


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="no ffmpeg to make them with")
def test_whole_clips_whose_headers_promise_more_frames_are_whole(
    write_clip: WriteClip, tmp_path: Path
) -> None:
    """An edit list hides frames; sound that lasts longer stretches the duration."""
    ffmpeg = ["ffmpeg", "-v", "error", "-y"]
    clip, whole = write_clip(tmp_path / "clip.mp4", frames=100), tmp_path / "whole.mp4"
    # One key frame, so that the cut below has to keep, and hide, all frames before it.
    subprocess.run(
        [*ffmpeg, "-i", clip, "-c:v", "mpeg4", "-g", "100", "-sc_threshold", "1000000000", whole],
        check=True,
    )
    edited, longer = tmp_path / "edited.mp4", tmp_path / "longer.mkv"
    subprocess.run(
        [*ffmpeg, "-ss", "6.5", "-i", whole, "-t", "2", "-c", "copy", edited], check=True
    )
    sound = ["-f", "lavfi", "-i", "sine=d=14"]
    subprocess.run([*ffmpeg, "-i", whole, *sound, "-c:v", "copy", longer], check=True)
    for path, least in ((edited, 15), (longer, 100)):
        with open_source(str(path)) as source:
            promised = source.frames
            assert promised is not None
            assert least <= len(list(source)) < promised
