"""Still pictures from disk: looked at before they are decoded, then decoded to RGB."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from srd_edge.errors import ShapeError, SourceError
from srd_edge.kernels.frames import Pixels, rgb_from_cv2

# fmt: off
PICTURE_SUFFIXES: Final = frozenset((
    ".bmp", ".dib", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm",
    ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
))
# fmt: on
MAX_PIXELS: Final = 100_000_000
"""Largest picture that is decoded; a few kilobytes of PNG can claim gigabytes of memory."""

_JPEG_MAGIC: Final = b"\xff\xd8"


def read_picture(path: Path) -> Pixels:
    """Decode one picture file.

    The EXIF orientation of JPEGs is honoured, as viewers do. Other formats are read with all their
    channels and bits, which in OpenCV excludes their (rare) orientation tags.

    Args:
        path: any format that OpenCV reads; the content counts, not the suffix.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        SourceError: for a file that cannot be read or decoded, or with over MAX_PIXELS pixels.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if not data:
        raise empty_file(path, "a picture")
    return decode_picture(data, f"'{path}'")


def decode_picture(data: bytes, name: str) -> Pixels:
    """Decode the bytes of a picture, as ``read_picture`` does those of a file.

    Args:
        data: at least one byte.
        name: of where they are from, for messages.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        SourceError: for a picture that cannot be decoded, or with over MAX_PIXELS pixels.
    """
    check_area(name, *_size_in_header(data))
    is_jpeg = data.startswith(_JPEG_MAGIC)
    # IMREAD_UNCHANGED is the only flag that keeps alpha and 16 bits, and the only one that
    # ignores the orientation; JPEG has neither alpha nor 16 bits.
    flags = cv2.IMREAD_COLOR if is_jpeg else cv2.IMREAD_UNCHANGED
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if image is not None:
            return rgb_from_cv2(image)
        found = f"{len(data)} bytes that cannot be decoded"
    except ShapeError as error:
        found = error.found
    except (cv2.error, MemoryError) as error:
        found = f"{len(data)} bytes that cannot be decoded ({type(error).__name__})"
    raise SourceError(
        expected=f"a whole picture (PNG, JPEG, WebP, BMP, TIFF) in {name}",
        found=found,
        do="check that it opens in an image viewer, and copy or download it again",
    )


def looks_like_picture(path: Path) -> bool:
    """Whether a file's first bytes are those of a picture that OpenCV reads."""
    return cv2.haveImageReader(str(path))


def check_area(name: str, width: int, height: int) -> None:
    """Raise SourceError for a picture of ``width`` x ``height`` pixels that is over MAX_PIXELS."""
    if width * height > MAX_PIXELS:
        raise SourceError(
            expected=f"at most {MAX_PIXELS // 1_000_000} megapixels in {name}",
            found=f"{width} x {height} pixels ({width * height / 1e6:.0f} megapixels)",
            do="scale it down first",
        )


def unreadable(path: Path, error: OSError) -> SourceError:
    """The SourceError for a file that the operating system refuses to read."""
    return SourceError(
        expected=f"a readable file at '{path}'",
        found=error.strerror or type(error).__name__,
        do="check its path and permissions",
    )


def empty_file(path: Path, kind: str) -> SourceError:
    """The SourceError for a file of zero bytes where ``kind`` was expected."""
    return SourceError(
        expected=f"{kind} in '{path}'", found="an empty file", do="copy or download it again"
    )


def _size_in_header(data: bytes) -> tuple[int, int]:
    """(width, height) as the header claims, (0, 0) where it cannot be told."""
    import imagesize  # and with it a client of HTTP, for which a video has no use

    try:
        width, height = imagesize.get(io.BytesIO(data))
    except Exception:  # imagesize lets any error of its parsers through; the decoder will judge
        return 0, 0
    return max(int(width), 0), max(int(height), 0)
