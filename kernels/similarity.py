"""How much of a picture has changed, for the gate that reuses a caption while nothing moves."""

from __future__ import annotations

import cv2

from srd_edge.errors import ShapeError, UsageError
from srd_edge.kernels.frames import Pixels, check_pixels


def largest_block_difference(a: Pixels, b: Pixels, block_px: int = 16) -> float:
    """The largest mean absolute difference over any square block of two pictures.

    The block slides over every position. A fixed grid would have corners at which a new sticker is
    shared out between four blocks, and whoever places stickers can find them.

    Args:
        a, b: (H, W, 3) uint8 RGB of the same shape.
        block_px: side of the block in pixels; cut to the picture where that is smaller.

    Returns:
        Grey levels, 0..255, averaged over the block's pixels and channels.

    Raises:
        ShapeError: for pictures that are not (H, W, 3) uint8 or differ in shape.
        UsageError: for a block outside 1..1024 pixels (OpenCV sums in 32 bits).
    """
    check_pixels(a)
    check_pixels(b)
    if a.shape != b.shape:
        raise ShapeError(
            expected="two pictures of the same shape",
            found=f"{a.shape} and {b.shape}",
            do="resize both to one canvas first",
        )
    if not 1 <= block_px <= 1024:
        raise UsageError(
            expected="a block of 1 to 1024 pixels",
            found=f"block_px {block_px}",
            do="choose a block the size of the smallest change that matters",
        )
    height, width = a.shape[:2]
    rows, columns = min(block_px, height), min(block_px, width)
    # One channel three times as wide: a window of 3 x columns values then sums a block's colours,
    # and every third window starts at a pixel.
    difference = cv2.absdiff(a, b).reshape(height, width * 3)
    sums = cv2.boxFilter(
        difference,
        cv2.CV_32F,
        (columns * 3, rows),
        anchor=(0, 0),
        normalize=False,
        borderType=cv2.BORDER_CONSTANT,
    )
    largest = float(sums[: height - rows + 1, : (width - columns) * 3 + 1 : 3].max())
    return largest / float(rows * columns * 3)
