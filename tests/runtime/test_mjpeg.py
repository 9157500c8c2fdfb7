"""Motion JPEG, cut apart: every picture whole, whatever the pieces it comes in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from srd_edge.errors import SourceError
from srd_edge.runtime import mjpeg
from srd_edge.runtime.mjpeg import split_mjpeg


def jpeg(seed: int, *flags: int) -> bytes:
    """Noise, so that its data holds stuffed bytes."""
    picture = np.random.default_rng(seed).integers(0, 256, (40, 56, 3), np.uint8)
    return cv2.imencode(".jpg", picture, flags)[1].tobytes()


PICTURES = [
    jpeg(0),
    jpeg(1, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    jpeg(2, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    jpeg(3, cv2.IMWRITE_JPEG_QUALITY, 100),
]


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def with_thumbnail(picture: bytes, thumbnail: bytes) -> bytes:
    """``picture`` with another JPEG inside its first segment."""
    return (
        picture[:2] + b"\xff\xe1" + (2 + len(thumbnail)).to_bytes(2, "big") + thumbnail
    ) + picture[2:]


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_pictures_come_out_as_they_went_in(size: int) -> None:
    pictures = [*PICTURES, with_thumbnail(PICTURES[0], PICTURES[1])]
    stream = b"".join(pictures)
    assert list(split_mjpeg(pieces(stream, size), "it")) == pictures


def test_what_is_between_pictures_is_skipped() -> None:
    stream = b"--x\r\nContent-Length: 9\r\n\r\n".join([b"", *PICTURES, b""]) + b"--x--"
    assert list(split_mjpeg(pieces(stream, 100), "it")) == PICTURES
    filled = PICTURES[0][:-2] + b"\xff\xff" + PICTURES[0][-2:]
    assert list(split_mjpeg([filled], "it")) == [filled]


@pytest.mark.parametrize("cut", [1, 2, 500, len(PICTURES[1]) - 3])
def test_a_picture_that_is_cut_off_is_an_error_after_those_before_it(cut: int) -> None:
    seen: list[bytes] = []
    with pytest.raises(SourceError, match="picture 1 of it, found one that is cut off"):
        seen.extend(split_mjpeg([PICTURES[0] + PICTURES[1][:-cut]], "it"))
    assert seen == PICTURES[:1]
    with pytest.raises(SourceError, match=r"picture 0 of it, found (one that is cut|damaged)"):
        list(split_mjpeg([PICTURES[1][:-cut] + PICTURES[0]], "it"))


def test_damaged_bytes_are_an_error() -> None:
    with pytest.raises(SourceError, match="damaged"):
        list(split_mjpeg([b"\xff\xd8" + bytes(999)], "it"))


def test_no_stream_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mjpeg, "MOST_BYTES", 1 << 20)
    endless = itertools.chain([PICTURES[0][:-2]], itertools.repeat(bytes(4096)))
    with pytest.raises(SourceError, match="without an end"):
        list(split_mjpeg(endless, "it"))
    with pytest.raises(SourceError, match="no JPEG"):
        list(split_mjpeg(itertools.repeat(bytes(4096)), "it"))
