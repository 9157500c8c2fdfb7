"""The frame record, boxes, and the one place where odd pictures become uint8 RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from srd_edge.errors import ShapeError

Pixels: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB, 0..255."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels, half open: columns left..right-1, rows top..bottom-1."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def clipped(self, width: int, height: int) -> Box:
        """The part of this box inside a picture of ``width`` x ``height`` pixels."""
        return Box(
            min(max(self.left, 0), width),
            min(max(self.top, 0), height),
            min(max(self.right, 0), width),
            min(max(self.bottom, 0), height),
        )

    def scaled(self, x_factor: float, y_factor: float) -> Box:
        """The same place in a picture that is ``x_factor`` wider and ``y_factor`` taller."""
        return Box(
            round(self.left * x_factor),
            round(self.top * y_factor),
            round(self.right * x_factor),
            round(self.bottom * y_factor),
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture on its way through the defence.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        index: position in its source, from 0.
        time_s: presentation time in seconds since the source's start.
    """

    pixels: Pixels
    index: int = 0
    time_s: float = 0.0

    def __post_init__(self) -> None:
        check_pixels(self.pixels)


def check_pixels(pixels: NDArray[np.generic]) -> None:
    """Raise ShapeError unless ``pixels`` is a non-empty (H, W, 3) uint8 array."""
    shape = getattr(pixels, "shape", None)
    dtype = getattr(pixels, "dtype", None)
    if shape is None or len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
        raise ShapeError(
            expected="pixels of shape (H, W, 3), dtype uint8, colour order RGB",
            found=f"shape {shape}, dtype {dtype}",
            do="convert the picture first, for example with srd_edge.kernels.frames.rgb_from_cv2",
        )


def rgb_from_cv2(image: NDArray[np.generic]) -> Pixels:
    """Turn whatever ``cv2.imread(..., IMREAD_UNCHANGED)`` returns into uint8 RGB.

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA; uint8, uint16 or float in 0..1.
            An alpha channel is composited over white, as browsers and most viewers do.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        ShapeError: for any other number of channels or dtype.
    """
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        raise ShapeError(
            expected="a picture with 1, 3 or 4 channels",
            found=f"an array of shape {image.shape}",
            do="save it as an ordinary grey, RGB or RGBA picture",
        )
    eight_bit: NDArray[Any] = _to_eight_bit(image)
    if eight_bit.shape[2] == 1:
        return np.ascontiguousarray(np.repeat(eight_bit, 3, axis=2))
    if eight_bit.shape[2] == 4:
        alpha = eight_bit[:, :, 3:].astype(np.uint16)
        over_white = (eight_bit[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255
        eight_bit = over_white.astype(np.uint8)
    return np.asarray(cv2.cvtColor(eight_bit, cv2.COLOR_BGR2RGB), np.uint8)


def _to_eight_bit(image: NDArray[np.generic]) -> Pixels:
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    if image.dtype == np.uint16:
        return (image.astype(np.uint32) * 255 // 65535).astype(np.uint8)
    if np.issubdtype(image.dtype, np.floating):
        levels: Pixels = np.clip(np.rint(image.astype(np.float32) * 255.0), 0, 255).astype(np.uint8)
        return levels
    raise ShapeError(
        expected="a picture of 8 or 16 bits a channel, or floating point in 0..1",
        found=f"dtype {image.dtype}",
        do="save it with 8 bits a channel",
    )
