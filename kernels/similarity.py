"""How much of a picture has changed, for the gate that reuses a caption while nothing moves."""

from __future__ import annotations

import cv2
import numpy as np

from srd_edge.errors import ShapeError, UsageError
from srd_edge.kernels.frames import Pixels, check_pixels


def largest_block_difference(a: Pixels, b: Pixels, block_px: int = 8) -> float:
    """The largest mean absolute difference of any channel over any block of two pictures.

    Blocks lie side by side, and once more along the right and lower edge where they do not come
    out even. A square half as large again as a block fills 9/16 of one, wherever it lies, so that
    the grid has no corner to hide in. A block that slides over every position costs far more.

    Args:
        a, b: (H, W, 3) uint8 RGB of the same shape.
        block_px: side of a block in pixels; cut to the picture where that is smaller.

    Returns:
        Grey levels, 0..255, averaged over the block's pixels and rounded.

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
    difference = np.asarray(cv2.absdiff(a, b), np.uint8)
    bottom, right = height - height % rows, width - width % columns
    # Slices: the blocks that come out even, then those of the right and the lower edge.
    tall = [slice(0, bottom), slice(height - rows, height)][: 1 + (bottom < height)]
    wide = [slice(0, right), slice(width - columns, width)][: 1 + (right < width)]
    return max(_largest_mean(difference[y, x], rows, columns) for y in tall for x in wide)


def _largest_mean(difference: Pixels, rows: int, columns: int) -> float:
    height, width = difference.shape[:2]
    size = width // columns, height // rows
    return float(cv2.resize(difference, size, interpolation=cv2.INTER_AREA).max())
