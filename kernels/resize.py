"""Pillow's resize, bit for bit, without Pillow.

Its coefficients are split into two digits whose products with pixels float32 holds exactly
(``srd_edge.kernels.coefficients``): the sums of either are those of integers, and are put together
and rounded as Pillow rounds, halves upwards. No value is near a tie by accident, and how long a
picture takes does not depend on what it shows.

Nothing of a frame's size is allocated: a frame is worked off in strips, in memory that is kept.

Source: Pillow, src/libImaging/Resample.c, and Geometry.c for ``nearest``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.coefficients import UNIT, Resample, coefficients
from srd_edge.kernels.frames import Pixels, check_pixels
from srd_edge.kernels.scratch import Scratch


def resize(pixels: Pixels, width: int, height: int, resample: Resample) -> Pixels:
    """Resize like ``PIL.Image.resize((width, height), resample)``.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        width, height: of the result, in pixels, 1 or more.
        resample: the filter.

    Returns:
        (height, width, 3) uint8 RGB, always a new contiguous array.

    Raises:
        ShapeError: for anything but (H, W, 3) uint8.
    """
    check_pixels(pixels)
    source_height, source_width = pixels.shape[:2]
    if resample == "nearest":
        rows = _nearest_indices(source_height, height)
        columns = _nearest_indices(source_width, width)
        return np.ascontiguousarray(pixels[rows[:, None], columns])
    # As Pillow has it since 13.0: the rows first where they shrink by far the most.
    rows_first = source_height - height > 2 * max(source_width - width, 0)
    if height == source_height or width == source_width:
        between = pixels
    elif rows_first:
        between = _SCRATCH.array("between", (height, source_width, 3), np.uint8)
        _resample_rows(pixels, between, resample)
    else:
        between = _SCRATCH.array("between", (source_height, width, 3), np.uint8)
        _resample_columns(pixels, between, resample)
    resized = np.empty((height, width, 3), np.uint8)
    if between.shape == resized.shape:
        resized[...] = between
    elif between.shape[0] == height:
        _resample_columns(between, resized, resample)
    else:
        _resample_rows(between, resized, resample)
    return resized


_SCRATCH: Final = Scratch()
_TURNED_ROWS: Final = 240
"""Of the source, about so many in one go through the horizontal pass."""
_STRIP: Final = 1080
"""About so many values side by side in one matrix product. Of 180 to 720 and 540 to 1152 these two
were the fastest for 1280 x 720 to 96, 224 and 384."""
_HALF_UP: Final = 2.0**-16
"""Added to multiples of UNIT, it makes rounding to the nearest even number round halves upwards."""


def _resample_columns(pixels: Pixels, target: Pixels, resample: Resample) -> None:
    """Resample (H, W, 3) uint8 along its second axis into (H, length, 3).

    Turned on its side, the horizontal pass is the vertical one: its matrix products run over whole
    contiguous rows instead of over strides of three. OpenCV turns in half of numpy's time.
    """
    width = pixels.shape[1]
    for top, bottom in _parts(len(pixels), _TURNED_ROWS):
        turned = _SCRATCH.array("turned", (width, bottom - top, 3), np.uint8)
        narrow = _SCRATCH.array("narrow", (target.shape[1], bottom - top, 3), np.uint8)
        cv2.transpose(pixels[top:bottom], dst=turned)
        _resample_rows(turned, narrow, resample)
        cv2.transpose(narrow, dst=target[top:bottom])


def _resample_rows(pixels: Pixels, target: Pixels, resample: Resample) -> None:
    """Resample (H, W, 3) uint8 along its first axis into (length, W, 3), which is contiguous."""
    groups = coefficients(len(pixels), len(target), resample)
    dtype = groups[0].blocks[0].digits.dtype.type
    source, made = pixels.reshape(len(pixels), -1), target.reshape(len(target), -1)
    for left, right in _parts(source.shape[1], _STRIP):
        width = right - left
        for group in groups:
            taps = _SCRATCH.array("taps", (group.last - group.first, width), dtype)
            np.copyto(taps, source[group.first : group.last, left:right])
            sums = _SCRATCH.array("sums", (len(group.blocks), 2 * group.height, width), dtype)
            for block, out in zip(group.blocks, sums, strict=True):
                np.matmul(block.digits, taps[block.first : block.last], out=out)
            digits = sums.reshape(len(sums), -1)
            high, low = digits[:, : group.height * width], digits[:, group.height * width :]
            rows = made[group.start : group.stop, left:right]
            whole = rows.flags.c_contiguous
            rounded = rows if whole else _SCRATCH.array("rounded", rows.shape, np.uint8)
            # All of it is exact, whatever float32 arithmetic OpenCV uses: a sum is a multiple of
            # 2**-16, and 24 bits hold it up to 256; what is larger is cut to 255 anyway.
            np.floor(low, out=low)
            into = rounded.reshape(high.shape)
            cv2.addWeighted(high, UNIT, low, UNIT, _HALF_UP, dst=into, dtype=cv2.CV_8U)
            if not whole:
                rows[...] = rounded


def _parts(length: int, about: int) -> Iterator[tuple[int, int]]:
    """First and last of parts as equal as can be."""
    count = max(round(length / about), 1)
    return pairwise(length * number // count for number in range(count + 1))


def _nearest_indices(source: int, target: int) -> NDArray[np.intp]:
    """Which source row each target row is; Pillow adds the step up, so its rounding is kept."""
    step = source / target
    steps = np.full(target, step)
    steps[0] = step * 0.5
    return np.minimum(np.cumsum(steps).astype(np.intp), source - 1)
