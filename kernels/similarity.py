"""How much of a picture has changed, for the gate that reuses a caption while nothing moves."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from srd_edge.errors import ShapeError, UsageError
from srd_edge.kernels.frames import Pixels, check_pixels
from srd_edge.kernels.scratch import Scratch

_SCRATCH: Final = Scratch()
_BAND: Final = 80
"""Rows that are compared at a time: the fastest of 16 to 240, and of the whole, at 1280 x 720."""


def largest_block_difference(
    a: Pixels, b: Pixels, block_px: int = 8, *, ignored: float = 0.0
) -> float:
    """The largest mean absolute difference of any channel over any block of two pictures.

    Blocks lie side by side, and once more along the right and lower edge where they do not come
    out even. A square half as large again as a block fills 9/16 of one, wherever it lies, so that
    the grid has no corner to hide in. A block that slides over every position costs far more.

    Args:
        a, b: (H, W, 3) uint8 RGB of the same shape.
        block_px: side of a block in pixels; cut to the picture where that is smaller.
        ignored: a difference up to it need not be known, which takes half of the time.

    Returns:
        Grey levels, 0..255, averaged over the block's pixels and rounded; or any that are not above
        ``ignored``, where none are.

    Raises:
        ShapeError: for pictures that are not (H, W, 3) uint8 or differ in shape.
        UsageError: for a block below 1 pixel.
    """
    check_pixels(a)
    check_pixels(b)
    if a.shape != b.shape:
        raise ShapeError(
            expected="two pictures of the same shape",
            found=f"{a.shape} and {b.shape}",
            do="resize both to one canvas first",
        )
    if block_px < 1:
        raise UsageError(
            expected="a block of at least 1 pixel",
            found=f"block_px {block_px}",
            do="choose a block two thirds as large as the smallest change that matters",
        )
    height, width = a.shape[:2]
    rows, columns = min(block_px, height), min(block_px, width)
    bottom, right = height - height % rows, width - width % columns
    step = max(_BAND - _BAND % rows, rows)
    # Slices: the blocks that come out even, then those of the right and the lower edge.
    tall = [slice(top, min(top + step, bottom)) for top in range(0, bottom, step)]
    tall += [slice(height - rows, height)] * (bottom < height)
    wide = [slice(0, right), slice(width - columns, width)][: 1 + (right < width)]
    largest = 0.0
    for y in tall:
        difference = _SCRATCH.array("difference", (y.stop - y.start, width, 3), np.uint8)
        cv2.absdiff(a[y], b[y], dst=difference)
        for x in wide:
            if not _at_most(difference[:, x], ignored, rows, columns):
                largest = max(largest, _largest_mean(difference[:, x], rows, columns))
    return largest


def _at_most(difference: Pixels, level: float, rows: int, columns: int) -> bool:
    """Whether no block's rounded mean can be above ``level``, as far as quarters of blocks tell.

    OpenCV halves fast. It rounds down by a quarter at most, each time, and a block's mean is once
    more rounded: it is no more than the largest of these values and 1.
    """
    if level < 1 or rows % 4 or columns % 4:
        return False
    height, width = difference.shape[:2]
    half = _SCRATCH.array("half", (height // 2, width // 2, 3), np.uint8)
    cv2.resize(difference, half.shape[1::-1], dst=half, interpolation=cv2.INTER_AREA)
    quarter = _SCRATCH.array("quarter", (height // 4, width // 4, 3), np.uint8)
    cv2.resize(half, quarter.shape[1::-1], dst=quarter, interpolation=cv2.INTER_AREA)
    return bool(quarter.max() + 1.0 <= level)


def _largest_mean(difference: Pixels, rows: int, columns: int) -> float:
    height, width = difference.shape[:2]
    size = width // columns, height // rows
    return float(cv2.resize(difference, size, interpolation=cv2.INTER_AREA).max())
