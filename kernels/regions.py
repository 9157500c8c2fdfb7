"""The part of a picture that an operator changes, and what it reads for that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.frames import Box, Pixels
from srd_edge.kernels.scratch import Scratch

_SCRATCH: Final = Scratch()
_BAND_BYTES: Final = 3 << 17
"""A processor's cache holds a few of these; of 1 << 17 to 1 << 22 the fastest for most kernels."""
_NEAR_A_TIE: Final = 1e-3
"""In grey levels. What is farther from a half is rounded alike from float32 and from float64."""


def inside(pixels: Pixels, box: Box) -> Pixels:
    """The view of ``pixels`` in the box, empty where the box misses the frame."""
    return pixels[max(box.top, 0) : max(box.bottom, 0), max(box.left, 0) : max(box.right, 0)]


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
        rows = _band_rows(region, dtype)
        yield from (region[top : top + rows] for top in range(0, len(region), rows))


def _band_rows(region: Pixels, dtype: type[np.generic] = np.uint8) -> int:
    row_bytes = region[:1].size * np.dtype(dtype).itemsize
    return max(_BAND_BYTES // max(row_bytes, 1), 1)


def fill(region: Pixels, paint: NDArray[np.uint8]) -> None:
    """Fill a view with ``paint``, (3,) uint8 RGB: by rows, not by three values at a time."""
    row = np.empty(region.shape[1:], np.uint8)
    row[...] = paint
    region[...] = row


def rewritten(
    region: Pixels, dtype: type[np.generic] = np.uint8
) -> Iterator[tuple[Pixels, Pixels]]:
    """The bands of a view, each with where OpenCV is to write what takes its place.

    That is the band itself if its rows are of pixels that lie side by side, as OpenCV writes them;
    otherwise it is elsewhere, and copied into the band when the next one is asked for.
    """
    height, width, _ = region.shape
    in_place = region.strides[1:] == (3, 1) and (height == 1 or region.strides[0] >= 3 * width)
    for band in bands(region, dtype):
        if in_place:
            yield band, band
        else:
            made = _SCRATCH.array("written", band.shape, np.uint8)
            yield band, made
            band[...] = made


def mix(region: Pixels, paint: NDArray[np.uint8], share: float) -> None:
    """Blend a view towards ``paint``, (3,) uint8 RGB, by ``share``, 0..1; rounds halves to even."""
    blended = np.arange(256.0)[:, None] * (1.0 - share) + paint * share
    if np.abs(blended % 1.0 - 0.5).min() < _NEAR_A_TIE:
        table = np.rint(blended).astype(np.uint8)[None]
        for band, mixed in rewritten(region):
            cv2.LUT(band, table, dst=mixed)
    else:
        painted = _SCRATCH.array("painted", region[: _band_rows(region)].shape, np.uint8)
        fill(painted, paint)
        for band, mixed in rewritten(region):
            cv2.addWeighted(band, 1.0 - share, painted[: len(band)], share, 0.0, dst=mixed)
