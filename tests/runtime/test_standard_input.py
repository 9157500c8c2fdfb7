"""Standard input: told apart by its first bytes, read to the last one, and left when asked to."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from srd_edge.errors import SourceError, UsageError
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.raw_video import RawFormat, parse_raw, raw_pixels, split_raw
from srd_edge.runtime.sources import open_source
from srd_edge.runtime.standard_input import open_standard_input

CODECS = {".webm": "VP80", ".avi": "MJPG", ".mp4": "mp4v"}


def picture(index: int) -> Pixels:
    """(32, 48, 3) uint8 RGB, of one colour that is ``index``'s own."""
    return np.full((32, 48, 3), (20 + index * 37 % 200, 90, 160), np.uint8)


def jpegs(count: int) -> bytes:
    return b"".join(cv2.imencode(".jpg", picture(i)[..., ::-1])[1].tobytes() for i in range(count))


def clip(path: Path, frames: int) -> bytes:
    fourcc = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, 10.0, (48, 32))
    for index in range(frames):
        writer.write(picture(index)[..., ::-1])
    writer.release()
    return path.read_bytes()


@contextlib.contextmanager
def piped(data: bytes) -> Iterator[int]:
    """The reading end of a pipe that ``data`` comes through."""
    read_end, write_end = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), open(write_end, "wb") as file:  # noqa: PTH123
            file.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    yield read_end
    os.close(read_end)
    writer.join(10)
    assert not writer.is_alive()


def read_all(
    data: bytes, spec: str = "-", every: int = 1, max_frames: int | None = None
) -> list[tuple[int, float, int]]:
    """Number, time and red of every frame."""
    ticks = itertools.count(100.0)
    with piped(data) as descriptor:
        source = open_standard_input(
            spec, every, max_frames, descriptor=descriptor, clock=lambda: next(ticks)
        )
        with source:
            return [
                (item.frame.index, item.frame.time_s, int(item.frame.pixels[16, 24, 0]))
                for item in source
            ]


def assert_frames(frames: list[tuple[int, float, int]], wanted: list[int]) -> None:
    assert [index for index, *_ in frames] == wanted
    for index, _, red in frames:
        assert abs(red - int(picture(index)[0, 0, 0])) <= 8


def test_motion_jpeg_comes_picture_by_picture() -> None:
    frames = read_all(jpegs(9))
    assert_frames(frames, list(range(9)))
    assert [time_s for _, time_s, _ in frames] == list(range(9))
    assert_frames(read_all(jpegs(9), every=2, max_frames=3), [0, 2, 4])


@pytest.mark.parametrize("suffix", [".webm", ".avi"])
def test_a_container_is_read_as_it_comes(tmp_path: Path, suffix: str) -> None:
    frames = read_all(clip(tmp_path / f"clip{suffix}", 20))
    assert_frames(frames, list(range(20)))
    assert [time_s for _, time_s, _ in frames] == pytest.approx([i / 10 for i in range(20)])


def test_what_comes_before_the_cut_is_kept(tmp_path: Path) -> None:
    data = clip(tmp_path / "clip.webm", 40)
    for cut, spec in ((jpegs(9)[:-30], "-"), (data[: len(data) // 2], "-")):
        seen: list[int] = []
        with (
            piped(cut) as descriptor,
            open_standard_input(spec, 1, None, descriptor=descriptor) as s,
        ):
            with pytest.raises(SourceError, match="cut off"):
                seen.extend(item.frame.index for item in s)
            assert seen == list(range(len(seen)))
            assert len(seen) >= 8


def test_an_mp4_with_its_index_at_the_end_is_to_be_named_or_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    fourcc = cv2.VideoWriter.fourcc(*CODECS[".mp4"])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, 10.0, (480, 320))
    rng = np.random.default_rng(0)
    for _ in range(30):  # more than FFmpeg keeps of a pipe
        writer.write(rng.integers(0, 256, (320, 480, 3), np.uint8))
    writer.release()
    data = path.read_bytes()
    assert data.find(b"moov") > 1 << 16
    for piece in (data, data[:100_000]):
        with pytest.raises(SourceError, match=r"\(moov\) comes after .* name the file.*faststart"):
            read_all(piece)
    with pytest.raises(SourceError, match="no video"):
        read_all(b"----ftyx" * 10_000)


CODES = {"rgb24": None, "bgr24": cv2.COLOR_RGB2BGR, "gray": cv2.COLOR_RGB2GRAY}


def encoded(pix_fmt: str, index: int) -> bytes:
    rgb = picture(index)
    if pix_fmt in CODES:
        code = CODES[pix_fmt]
        return (rgb if code is None else cv2.cvtColor(rgb, code)).tobytes()
    planar = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420))
    if pix_fmt == "yuv420p":
        return planar.tobytes()
    luma, chroma = planar[:32].tobytes(), planar[32:].reshape(2, -1)
    return luma + chroma.T.tobytes()  # nv12: u and v take turns


@pytest.mark.parametrize("pix_fmt", ["rgb24", "bgr24", "gray", "yuv420p", "nv12"])
def test_raw_frames(pix_fmt: str) -> None:
    data = b"".join(encoded(pix_fmt, index) for index in range(5))
    raw = parse_raw(f"raw:48x32:{pix_fmt}@20")
    assert raw == RawFormat(48, 32, pix_fmt, 20.0)
    for index, one in enumerate(split_raw([data[:1000], data[1000:]], raw, "it")):
        pixels = raw_pixels(one, raw)
        wanted = picture(index).astype(int)
        if pix_fmt == "gray":
            wanted = np.repeat(cv2.cvtColor(picture(index), cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
        assert np.abs(pixels.astype(int) - wanted).max() <= 4
        assert pixels.flags.writeable
    frames = read_all(data, f"raw:48x32:{pix_fmt}@20")
    assert [frame[:2] for frame in frames] == [(i, i / 20) for i in range(5)]


def test_a_raw_frame_that_is_cut_off_is_an_error_after_those_before_it() -> None:
    data = b"".join(encoded("rgb24", index) for index in range(3))
    seen: list[bytes] = []
    with pytest.raises(SourceError, match="4608 bytes in frame 2 of it, found 4508"):
        seen.extend(split_raw([data[:-100]], parse_raw("raw:48x32"), "it"))
    assert len(seen) == 2


@pytest.mark.parametrize(
    "spec",
    [
        *("raw:", "raw:48", "raw:48x32:rgb48le", "raw:48x32@", "raw:48x32 ", "raw:0x32"),
        *("raw:99999x99999", "raw:47x32:nv12", "raw:48x33:yuv420p", "raw:-48x32"),
    ],
)
def test_a_format_that_is_none(spec: str) -> None:
    with pytest.raises(UsageError):
        open_source(spec)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "nothing"),
        (b"hello\n" * 5000, "begins with b'hello"),
        (np.random.default_rng(0).integers(0, 256, 200_000, np.uint8).tobytes(), "no video"),
        (b"\xff\xd8\xff" + bytes(99), "damaged"),
        (b"x", "no video"),
    ],
)
def test_what_is_no_video_is_refused(data: bytes, word: str) -> None:
    with pytest.raises(SourceError, match=word) as caught:
        read_all(data)
    assert "\n" not in str(caught.value)


def test_a_terminal_and_a_closed_input_are_refused() -> None:
    terminal, other = os.openpty()
    with pytest.raises(SourceError, match="a terminal"):
        open_standard_input("-", 1, None, descriptor=other)
    os.close(terminal)
    os.close(other)
    with pytest.raises(SourceError, match="Bad file descriptor"):
        open_standard_input("-", 1, None, descriptor=other)
    with pytest.raises(SourceError, match="--video"):
        open_source("-", kind="image")


def assert_no_threads() -> None:
    for thread in threading.enumerate():
        if thread.name in ("srd-edge reader", "srd-edge pipe"):
            thread.join(10)
            assert not thread.is_alive()


def mjpeg_start(_: Path) -> bytes:
    return jpegs(2)


def webm_start(folder: Path) -> bytes:
    return clip(folder / "clip.webm", 100)[:-1000]


@pytest.mark.parametrize("start", [mjpeg_start, webm_start])
def test_close_returns_while_nothing_comes(tmp_path: Path, start: Callable[[Path], bytes]) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, start(tmp_path))
    with open_standard_input("-", 1, None, descriptor=read_end) as source:
        assert next(source).frame.index == 0
    assert list(source) == []
    assert_no_threads()
    os.close(read_end)
    os.close(write_end)


def test_an_opening_that_is_interrupted_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("srd_edge.runtime.standard_input.on_a_thread", interrupted)
    read_end, write_end = os.pipe()
    os.write(write_end, b"\x1a\x45\xdf\xa3")
    with pytest.raises(KeyboardInterrupt):
        open_standard_input("-", 1, None, descriptor=read_end)
    assert_no_threads()
    os.close(read_end)
    os.close(write_end)
