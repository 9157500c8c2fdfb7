"""Pictures for a browser: the frame with its boxes, and thumbnails, as JPEG."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from srd_edge.kernels.frames import Box, Frame, Pixels
from srd_edge.runtime.annotate import boxed
from srd_edge.runtime.records import Result

PICTURE_WIDTH_PX: Final = 1280
"""Wider frames are scaled down to it."""
THUMBNAIL_PX: Final = 256, 160
"""Width and height into which a thumbnail fits."""

_QUALITY: Final = 82
_BOX: Final = (255, 214, 10)


def picture(frame: Frame, result: Result) -> bytes:
    """The frame with its boxes as JPEG; ``frame`` as it came from the source."""
    pixels = boxed(frame, result)
    return jpeg(fitted(pixels, PICTURE_WIDTH_PX, pixels.shape[0]))


def thumbnail(frame: Frame, result: Result) -> Pixels:
    """A small picture of the frame with its boxes, (H, W, 3) uint8 RGB."""
    pixels = frame.pixels
    height, width = pixels.shape[:2]
    small = np.ascontiguousarray(fitted(pixels, *THUMBNAIL_PX))
    small = small.copy() if np.shares_memory(small, pixels) else small
    factors = small.shape[1] / width, small.shape[0] / height
    everything = Box(0, 0, width, height)
    for action in result.actions:
        if action.box != everything:
            box = action.box.clipped(width, height).scaled(*factors)
            cv2.rectangle(small, (box.left, box.top), (box.right - 1, box.bottom - 1), _BOX, 2)
    return small


def fitted(pixels: Pixels, width: int, height: int) -> Pixels:
    """``pixels``, scaled down to fit into ``width`` by ``height``; itself if it fits."""
    factor = min(width / pixels.shape[1], height / pixels.shape[0])
    if factor >= 1:
        return pixels
    size = max(round(pixels.shape[1] * factor), 1), max(round(pixels.shape[0] * factor), 1)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def jpeg(pixels: Pixels) -> bytes:
    """(H, W, 3) uint8 RGB as a JPEG file."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
