"""Raw frames: pixels one after the other without any header, as ``ffmpeg -f rawvideo`` writes them.

    raw:WIDTHxHEIGHT[:PIX_FMT][@FPS]      PIX_FMT: rgb24 (the default) bgr24 gray yuv420p nv12

The names are FFmpeg's. The two YUV formats are taken as BT.601 in limited range, FFmpeg's default.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from srd_edge.errors import SourceError, UsageError
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.pictures import MAX_PIXELS

PREFIX: Final = "raw:"

_CONVERSIONS: Final = {
    "rgb24": None,
    "bgr24": cv2.COLOR_BGR2RGB,
    "gray": cv2.COLOR_GRAY2RGB,
    "yuv420p": cv2.COLOR_YUV2RGB_I420,
    "nv12": cv2.COLOR_YUV2RGB_NV12,
}
_SUBSAMPLED: Final = ("yuv420p", "nv12")
_SPEC: Final = re.compile(r"raw:(\d{1,6})x(\d{1,6})(?::(\w+))?(?:@(\d+(?:\.\d+)?))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class RawFormat:
    """How raw frames lie in a stream.

    Args:
        width, height: in pixels.
        pix_fmt: a name in the module's text.
        fps: frames a second; None if nobody said.
    """

    width: int
    height: int
    pix_fmt: str = "rgb24"
    fps: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one frame as a uint8 array."""
        if self.pix_fmt in _SUBSAMPLED:
            return self.height * 3 // 2, self.width
        return (self.height, self.width, *(() if self.pix_fmt == "gray" else (3,)))

    @property
    def frame_bytes(self) -> int:
        return math.prod(self.shape)


def parse_raw(spec: str) -> RawFormat:
    """Read ``raw:WIDTHxHEIGHT[:PIX_FMT][@FPS]``.

    Raises:
        UsageError: for anything else, for a picture without pixels or with too many, and for an odd
            size where the format has a colour for two pixels.
    """
    match = _SPEC.fullmatch(spec)
    if match is None or (match[3] or "rgb24") not in _CONVERSIONS:
        raise UsageError(
            expected=f"raw:WIDTHxHEIGHT[:{'|'.join(_CONVERSIONS)}][@FPS]",
            found=f"'{spec}'",
            do="write, for example, raw:640x480:bgr24@30",
        )
    width, height, fps = int(match[1]), int(match[2]), float(match[4] or 0)
    found = RawFormat(width, height, match[3] or "rgb24", fps or None)
    if not 0 < width * height <= MAX_PIXELS:
        raise UsageError(
            expected=f"1 to {MAX_PIXELS} pixels in a frame",
            found=f"{width * height} in '{spec}'",
            do="check the width and height",
        )
    if found.pix_fmt in _SUBSAMPLED and (width % 2 or height % 2):
        raise UsageError(
            expected=f"an even width and height for {found.pix_fmt}",
            found=f"{width}x{height}",
            do="scale or crop it by a pixel first",
        )
    return found


def split_raw(chunks: Iterable[bytes], raw: RawFormat, name: str) -> Generator[bytes]:
    """The frames of a raw stream, ``raw.frame_bytes`` bytes each, in order.

    Args:
        chunks: the stream in pieces of any size.
        raw: how it lies there.
        name: of the stream, for messages.

    Raises:
        SourceError: if the stream ends within a frame, after those before it.
    """
    data, size, count = bytearray(), raw.frame_bytes, 0
    for chunk in chunks:
        data += chunk
        while len(data) >= size:
            yield bytes(data[:size])
            del data[:size]
            count += 1
    if data:
        raise SourceError(
            expected=f"{size} bytes in frame {count} of {name}",
            found=f"{len(data)}: it is cut off",
            do="check the width, height and pixel format; the frames before it were processed",
        )


def raw_pixels(data: bytes, raw: RawFormat) -> Pixels:
    """One raw frame as (H, W, 3) uint8 RGB."""
    array = np.frombuffer(data, np.uint8).reshape(raw.shape)
    conversion = _CONVERSIONS[raw.pix_fmt]
    if conversion is None:
        return array.copy()  # a buffer of bytes cannot be written to
    return np.asarray(cv2.cvtColor(array, conversion), np.uint8)
