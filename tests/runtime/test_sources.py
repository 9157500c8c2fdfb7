"""Sources: every frame once and in order, and one clear line for whatever cannot be read."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge.errors import SourceError, UsageError
from srd_edge.runtime import found_files
from srd_edge.runtime.containers import missing_bytes
from srd_edge.runtime.source import SourcedFrame
from srd_edge.runtime.sources import open_source

SHARED = Path(os.environ.get("SRD_EDGE_SHARED", Path(__file__).parents[3] / "shared"))
CODECS = {".webm": "VP80", ".mp4": "mp4v", ".avi": "MJPG", ".mkv": "MJPG"}


def grey(index: int) -> int:
    """Brightness that tells frame ``index`` from its neighbours, lossy codecs or not."""
    return 20 + index * 37 % 200


def write_clip(
    path: Path, frames: int = 30, size: tuple[int, int] = (96, 64), first: int = 0
) -> Path:
    fourcc = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, 10.0, size)
    assert writer.isOpened()
    for index in range(first, first + frames):
        writer.write(np.full((size[1], size[0], 3), grey(index), np.uint8))
    writer.release()
    return path


def write_picture(path: Path, value: int = 90, size: tuple[int, int] = (20, 10)) -> Path:
    encoded = cv2.imencode(path.suffix, np.full((size[1], size[0], 3), value, np.uint8))[1]
    path.write_bytes(encoded.tobytes())
    return path


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def read_all(spec: str | Path, **options: object) -> list[SourcedFrame]:
    with open_source(str(spec), **options) as source:  # type: ignore[arg-type]
        return list(source)


def assert_refused(spec: str | Path, *words: str, **options: object) -> None:
    with pytest.raises(SourceError) as caught:
        read_all(spec, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("suffix", CODECS)
def test_every_frame_comes_once_and_in_order(tmp_path: Path, suffix: str) -> None:
    path = write_clip(tmp_path / f"clip{suffix}", frames=40)
    with open_source(str(path), kind="video") as source:
        assert (source.frames, source.fps, source.files, source.live) == (40, 10.0, 1, False)
        items = list(source)
    assert [item.frame.index for item in items] == list(range(40))
    for item in items:
        assert item.frame.pixels.shape == (64, 96, 3)
        assert abs(int(item.frame.pixels.mean()) - grey(item.frame.index)) <= 4
        assert item.frame.time_s == pytest.approx(item.frame.index / 10, abs=0.002)
        assert item.file == str(path)
    assert missing_bytes(path) == 0


def test_every_nth_frame_keeps_its_number(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.avi", frames=31)
    with open_source(str(path), every=4, max_frames=5) as source:
        assert source.frames == 5
        assert source.fps == 2.5
        assert [item.frame.index for item in source] == [0, 4, 8, 12, 16]
    with open_source(str(path), every=4) as source:
        assert source.frames == len(list(source)) == 8


@pytest.mark.parametrize("option", ["every", "max_frames"])
def test_counts_below_one_are_a_usage_error(option: str) -> None:
    with pytest.raises(UsageError):
        open_source("demo", **{option: 0})  # type: ignore[arg-type]


def test_numbers_run_on_over_the_files_of_a_directory(tmp_path: Path) -> None:
    write_picture(tmp_path / "10 last.png")
    write_clip(tmp_path / "9 über spät.avi", frames=3)
    write_picture(tmp_path / "1.jpg", size=(5, 7))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_text("not a picture")
    with open_source(str(tmp_path)) as source:
        assert (source.files, source.frames) == (3, 5)
        items = list(source)
    assert [item.frame.index for item in items] == [0, 1, 2, 3, 4]
    names = [Path(item.file).name for item in items]
    assert names == ["1.jpg", *["9 über spät.avi"] * 3, "10 last.png"]
    assert items[0].frame.pixels.shape == (7, 5, 3)
    assert [item.frame.index for item in read_all(tmp_path, every=2)] == [0, 2, 4]
    assert [Path(i.file).name for i in read_all(tmp_path, kind="image")] == ["1.jpg", "10 last.png"]


def test_globs_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b2.png", "b10.png", "c.png"):
        write_picture(tmp_path / name)
    globbed = read_all(tmp_path / "b*.png")
    assert [Path(item.file).name for item in globbed] == ["b2.png", "b10.png"]
    listing = tmp_path / "list.txt"
    listing.write_text(f"# mine\nc.png\n\n{tmp_path}/b2.png\r\nc.png\n", encoding="utf-8")
    monkeypatch.chdir("/")
    assert [Path(i.file).name for i in read_all(listing)] == ["c.png", "b2.png", "c.png"]
    with open_source(str(listing)) as source:
        names = ("b2.png", "c.png", "list.txt")
        assert sorted(source.paths) == sorted((tmp_path / name).resolve() for name in names)
    listing.write_text("c.png\nmissing.png\n")
    assert_refused(listing, "line 2", "missing.png")
    listing.write_text("\n")
    assert_refused(listing, "one path")


def test_a_name_with_glob_characters_is_a_file_first(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "shot [1] 50%.png")
    assert len(read_all(path)) == 1


@pytest.mark.parametrize("name", ["a:b.avi", "shot_001.avi", "100%d.avi", "日本 語.avi"])
def test_odd_names_of_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write_clip(tmp_path / "x.avi", frames=3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(read_all(name)) == 3


def test_pictures_of_every_make(tmp_path: Path) -> None:
    wide = np.zeros((4, 6), np.uint16)
    wide[:, 3:] = 65535
    alpha = np.dstack([np.zeros((4, 6, 3), np.uint8), np.full((4, 6), 0, np.uint8)])
    cases: dict[str, NDArray[np.integer[Any]]] = {
        "grey.png": wide.astype(np.uint8),
        "deep.png": wide,
        "alpha.png": alpha,
        "one.png": np.full((1, 1, 3), 7, np.uint8),
    }
    for name, array in cases.items():
        assert cv2.imwrite(str(tmp_path / name), array)
    got = {name: read_all(tmp_path / name)[0].frame.pixels for name in cases}
    assert got["grey.png"][0, 0].tolist() == [0, 0, 0]
    assert got["grey.png"][0, 5].tolist() == [255, 255, 255]
    assert got["deep.png"][0, 5].tolist() == [255, 255, 255]
    assert got["alpha.png"].min() == 255
    assert got["one.png"].shape == (1, 1, 3)


def test_colours_come_as_rgb(tmp_path: Path) -> None:
    red = np.zeros((64, 96, 3), np.uint8)
    red[..., 2] = 255
    cv2.imwrite(str(tmp_path / "red.png"), red)
    writer = cv2.VideoWriter(
        str(tmp_path / "red.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (96, 64)
    )
    writer.write(red)
    writer.release()
    for item in read_all(tmp_path):
        assert item.frame.pixels[32, 48, 0] > 240
        assert item.frame.pixels[32, 48, 2] < 15


def test_the_orientation_of_a_photograph_is_honoured(tmp_path: Path) -> None:
    plain = write_picture(tmp_path / "photo.jpg", size=(20, 10)).read_bytes()
    # An EXIF block with the one tag 0x0112 (orientation) = 6: turn clockwise to look at it.
    tag = struct.pack("<HHHII", 1, 0x0112, 3, 1, 6) + bytes(4)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + tag
    block = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    (tmp_path / "photo.jpg").write_bytes(plain[:2] + block + plain[2:])
    assert read_all(tmp_path / "photo.jpg")[0].frame.pixels.shape == (20, 10, 3)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def test_a_huge_picture_is_refused_by_its_header(tmp_path: Path) -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IEND", b""))
    assert_refused(tmp_path / "huge.png", "20000 x 20000", "100 megapixels")


def test_bad_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("this is no picture")
    assert_refused(tmp_path / "text.png", "cannot be decoded", "text.png")
    (tmp_path / "empty.jpg").touch()
    assert_refused(tmp_path / "empty.jpg", "an empty file")
    assert_refused(cut(write_picture(tmp_path / "cut.png", size=(90, 90)), 0.5), "cut.png")


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.mp4", "no such file")
    assert_refused(tmp_path / "*.png", "no match")
    assert_refused(tmp_path, "none (sub-directories")
    (tmp_path / "readme.md").write_text("hello")
    assert_refused(tmp_path, str(tmp_path))
    assert_refused(tmp_path / "*.md", "no match")
    assert_refused("987", "camera", kind="video")


def test_video_is_not_a_picture(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.avi", frames=1)
    for spec in (tmp_path / "clip.avi", tmp_path, "0", "rtsp://nowhere/"):
        assert_refused(spec, "--video", kind="image")


def test_bad_clips_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is no video\n" * 50)
    assert_refused(tmp_path / "text.mp4", "no video")
    (tmp_path / "empty.mp4").touch()
    assert_refused(tmp_path / "empty.mp4", "an empty file")
    assert_refused(write_clip(tmp_path / "none.avi", frames=0), "at least one frame")
    assert_refused(cut(write_clip(tmp_path / "tail.mp4"), 0.6), "cut off", "moov")


@pytest.mark.parametrize("suffix", [".webm", ".avi", ".mkv"])
def test_a_cut_off_clip_gives_what_it_has_then_says_so(tmp_path: Path, suffix: str) -> None:
    path = cut(write_clip(tmp_path / f"clip{suffix}", frames=90), 0.5)
    seen: list[int] = []
    with open_source(str(path)) as source, pytest.raises(SourceError) as caught:
        seen.extend(item.frame.index for item in source)
    assert 20 < len(seen) < 70
    assert seen == list(range(len(seen)))
    assert f"expected 90 frames in '{path}', found {len(seen)}: the file is cut off" in str(
        caught.value
    )


def test_a_cut_off_mp4_with_its_index_in_front(tmp_path: Path) -> None:
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


def test_stopping_before_the_cut_is_no_error(tmp_path: Path) -> None:
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


def test_sizes_may_change_between_files(tmp_path: Path) -> None:
    write_clip(tmp_path / "1.avi", frames=2)
    write_clip(tmp_path / "2.avi", frames=2, size=(64, 96))
    shapes = [item.frame.pixels.shape[:2] for item in read_all(tmp_path)]
    assert shapes == [(64, 96), (64, 96), (96, 64), (96, 64)]


def test_the_demo_is_the_built_in_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found_files, "DEMO_CLIP", tmp_path / "demo.webm")
    assert_refused("demo", "install srd-edge again")
    write_clip(tmp_path / "demo.webm", frames=3)
    assert len(read_all("demo")) == 3


def test_the_user_sees_our_one_line_only(tmp_path: Path) -> None:
    cut(write_clip(tmp_path / "clip.mp4"), 0.6)
    cut(write_picture(tmp_path / "cut.png", size=(90, 90)), 0.5)
    code = (
        "import sys\n"
        "from srd_edge.errors import SourceError\n"
        "from srd_edge.runtime.native_output import native_stderr_muted\n"
        "from srd_edge.runtime.sources import open_source\n"
        "with native_stderr_muted():\n"
        "    for spec in sys.argv[1:]:\n"
        "        try:\n"
        "            list(open_source(spec))\n"
        "        except SourceError as error:\n"
        "            print(error, file=sys.stderr)\n"
    )
    paths = [str(tmp_path / name) for name in ("clip.mp4", "cut.png", "none")]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True
    )
    assert len(done.stderr.splitlines()) == 3
    assert all(line.startswith("expected ") for line in done.stderr.splitlines())


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
def test_whole_clips_whose_headers_promise_more_frames_are_whole(tmp_path: Path) -> None:
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
