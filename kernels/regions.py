"""The part of a picture that an operator changes, and what it reads for that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.frames import Box, Pixels
from srd_edge.kernels.scratch import Scratch

_SCRATCH: Final = Scratch()
_BAND_BYTES: Final = 1 << 18
"""A processor's cache holds a few of these."""


def inside(pixels: Pixels, box: Box) -> Pixels:
    """The view of ``pixels`` in the box, empty where the box misses the frame."""
    box = box.clipped(pixels.shape[1], pixels.shape[0])
    return pixels[box.top : box.bottom, box.left : box.right]


def surroundings(pixels: Pixels, box: Box, margin: int) -> tuple[Pixels, tuple[slice, slice]]:
    """The view of ``pixels`` in the box and ``margin`` round it, and where the box lies in it."""
    height, width = pixels.shape[:2]
    box = box.clipped(width, height)
    outer = Box(box.left - margin, box.top - margin, box.right + margin, box.bottom + margin)
    outer = outer.clipped(width, height)
    rows = slice(box.top - outer.top, box.bottom - outer.top)
    columns = slice(box.left - outer.left, box.right - outer.left)
    return pixels[outer.top : outer.bottom, outer.left : outer.right], (rows, columns)


def bands(region: Pixels, dtype: type[np.generic] = np.uint8) -> Iterator[Pixels]:
    """The rows of a view, a few at a time, each a view; none of an empty one.

    Args:
        region: (H, W, 3) uint8 RGB.
        dtype: what the values become on the way.
    """
    if region.size:
        rows = max(_BAND_BYTES // (region.shape[1] * 3 * np.dtype(dtype).itemsize), 1)
        yield from (region[top : top + rows] for top in range(0, len(region), rows))


def fill(region: Pixels, paint: NDArray[np.uint8]) -> None:
    """Fill a view with ``paint``, (3,) uint8 RGB: by rows, not by three values at a time."""
    row = np.empty(region.shape[1:], np.uint8)
    row[...] = paint
    region[...] = row


def look_up(region: Pixels, table: NDArray[np.uint8]) -> None:
    """Replace every value by its entry in ``table``, (256,) or (1, 256, 3), in place."""
    for band in bands(region):
        with written(band) as found:
            cv2.LUT(band, table, dst=found)


@contextmanager
def written(band: Pixels) -> Iterator[Pixels]:
    """Where OpenCV is to write what belongs into a view: there, if it can, otherwise near by.

    It writes rows of pixels that lie side by side; what it wrote elsewhere is copied at the end.
    """
    height, width, _ = band.shape
    if band.strides[1:] == (3, 1) and (height == 1 or band.strides[0] >= 3 * width):
        yield band
        return
    made = _SCRATCH.array("written", band.shape, np.uint8)
    yield made
    band[...] = made
