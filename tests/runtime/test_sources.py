"""Sources: every frame once and in order, and one clear line for whatever cannot be read."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge.errors import UsageError
from srd_edge.runtime import found_files
from srd_edge.runtime.containers import missing_bytes
from srd_edge.runtime.sources import open_source
from tests.runtime.reading import assert_refused, cut, read_all

WriteClip = Callable[..., Path]


def grey(index: int) -> int:
    """Brightness that tells frame ``index`` from its neighbours, lossy codecs or not."""
    return 20 + index * 37 % 200


def write_picture(path: Path, value: int = 90, size: tuple[int, int] = (20, 10)) -> Path:
    encoded = cv2.imencode(path.suffix, np.full((size[1], size[0], 3), value, np.uint8))[1]
    path.write_bytes(encoded.tobytes())
    return path


@pytest.mark.parametrize("suffix", [".webm", ".mp4", ".avi", ".mkv"])
def test_every_frame_comes_once_and_in_order(
    write_clip: WriteClip, tmp_path: Path, suffix: str
) -> None:
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


def test_every_nth_frame_keeps_its_number(write_clip: WriteClip, tmp_path: Path) -> None:
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


def test_numbers_run_on_over_the_files_of_a_directory(
    write_clip: WriteClip, tmp_path: Path
) -> None:
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
def test_odd_names_of_clips(
    write_clip: WriteClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
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


def test_video_is_not_a_picture(write_clip: WriteClip, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.avi", frames=1)
    for spec in (tmp_path / "clip.avi", tmp_path, "0", "rtsp://nowhere/"):
        assert_refused(spec, "--video", kind="image")


def test_sizes_may_change_between_files(write_clip: WriteClip, tmp_path: Path) -> None:
    write_clip(tmp_path / "1.avi", frames=2)
    write_clip(tmp_path / "2.avi", frames=2, size=(64, 96))
    shapes = [item.frame.pixels.shape[:2] for item in read_all(tmp_path)]
    assert shapes == [(64, 96), (64, 96), (96, 64), (96, 64)]


def test_the_demo_is_the_built_in_clip(
    write_clip: WriteClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found_files, "DEMO_CLIP", tmp_path / "demo.webm")
    assert_refused("demo", "install srd-edge again")
    write_clip(tmp_path / "demo.webm", frames=3)
    assert len(read_all("demo")) == 3


def test_the_user_sees_our_one_line_only(write_clip: WriteClip, tmp_path: Path) -> None:
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
