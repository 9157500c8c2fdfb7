"""A frame and its result as one picture that a person can read.

The frame itself on top, with a box and a name for every regional action, and nothing else drawn on
it; below it the band of ``srd_edge.runtime.band``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import cv2
import numpy as np

from srd_edge.kernels.frames import Box, Frame, Pixels
from srd_edge.runtime.band import band_height, draw_band
from srd_edge.runtime.lettering import SMALL_SCALE, Colour, Pen
from srd_edge.runtime.reasons import readable
from srd_edge.runtime.records import AppliedAction, Result

MIN_WIDTH_PX: Final = 640
"""Width of the band at least; smaller frames are scaled up to it."""
SCALED_UP_PX: Final = 720
"""No frame is made taller than this by scaling it up; it stands in the middle then."""
MAX_SIDE_PX: Final = 1920
"""Larger frames are scaled down to this: the picture is for eyes, the measurements are in JSON."""

_BOX: Final[Colour] = (255, 214, 10)
_INK: Final[Colour] = (20, 20, 20)


def annotate(frame: Frame, result: Result, *, compare: bool | None = None) -> Pixels:
    """Draw ``result`` over and under a copy of ``frame``.

    Args:
        frame: as it came from the source, unperturbed.
        result: its result; boxes in the frame's own pixels.
        compare: whether to keep room for the raw caption; None: if the result has one. A video
            passes the same value for each frame, so that the layout stays.

    Returns:
        (H, W, 3) uint8 RGB with even H and W, at least MIN_WIDTH_PX wide; H and W depend on the
        frame's size and on ``compare`` only.
    """
    has_raw = result.raw_caption is not None if compare is None else compare
    picture = boxed(frame, result)
    height, width = picture.shape[:2]
    unit = _unit(width)
    band_px = band_height(unit, has_raw)
    band_px += (height + band_px) % 2
    canvas = np.empty((height + band_px, width, 3), np.uint8)
    canvas[:height] = picture
    draw_band(Pen(canvas, unit), height, frame.pixels, result, compare=has_raw)
    return canvas


def boxed(frame: Frame, result: Result) -> Pixels:
    """The frame at a readable size with a box and a name for every regional action.

    Returns:
        (H, W, 3) uint8 RGB, centred where it is narrower than MIN_WIDTH_PX.
    """
    everything = Box(0, 0, frame.pixels.shape[1], frame.pixels.shape[0])
    return _picture(frame.pixels, [a for a in result.actions if a.box != everything])


def _unit(width: int) -> float:
    """How large letters are on a canvas of that width: they grow, but not as fast as it does."""
    return max(math.sqrt(width / MIN_WIDTH_PX), 1.0)


def _picture(pixels: Pixels, regional: Sequence[AppliedAction]) -> Pixels:
    """The frame at a readable size with its boxes, centred if it is narrower than the band."""
    height, width = pixels.shape[:2]
    factor = max(min(MIN_WIDTH_PX / width, SCALED_UP_PX / height), 1.0)
    factor = min(factor, MAX_SIDE_PX / max(width, height))
    new_width, new_height = max(round(width * factor), 1), max(round(height * factor), 1)
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    full_width = max(MIN_WIDTH_PX, new_width + new_width % 2)
    left = (full_width - new_width) // 2
    picture = np.zeros((new_height, full_width, 3), np.uint8)
    inside = picture[:, left : left + new_width]
    cv2.resize(pixels, (new_width, new_height), inside, interpolation=way)
    named: dict[Box, list[str]] = {}
    for action in regional:
        names = named.setdefault(action.box.clipped(width, height), [])
        if readable(action.op) not in names:
            names.append(readable(action.op))
    labels = {}
    for box, names in named.items():
        place = box.scaled(new_width / width, new_height / height)
        shifted = Box(place.left + left, place.top, place.right + left, place.bottom)
        labels[shifted] = " + ".join(names)
    _draw_boxes(Pen(picture, _unit(full_width)), labels)
    return picture


def _draw_boxes(pen: Pen, labels: Mapping[Box, str]) -> None:
    """Outline every box; then write the labels, each where it covers no other label."""
    height, width = pen.canvas.shape[:2]
    thick = max(round(2 * pen.unit), 1)
    for box in labels:
        corners = (box.left, box.top), (max(box.right - 1, box.left), max(box.bottom - 1, box.top))
        # A dark line inside the bright one, so that the box shows on any picture.
        cv2.rectangle(pen.canvas, *corners, _INK, thick + 2, cv2.LINE_AA)
        cv2.rectangle(pen.canvas, *corners, _BOX, thick, cv2.LINE_AA)
    tag_px, pad = round(20 * pen.unit), round(5 * pen.unit)
    taken: list[Box] = []
    for box, label in labels.items():
        tag_width = min(round(pen.width(label, SMALL_SCALE)) + 2 * pad, width)
        left = min(max(box.left - thick // 2, 0), width - tag_width)
        rows = [box.top - tag_px, box.bottom, box.top, *range(box.top + tag_px, height, tag_px)]
        spots = [Box(left, row, left + tag_width, row + tag_px) for row in rows]
        inside = [spot for spot in spots if spot.top >= 0 and spot.bottom <= height]
        free = [spot for spot in inside if not any(_overlap(spot, other) for other in taken)]
        if not inside:  # a picture lower than a label: the box has to do
            continue
        spot = (free or inside)[0]
        taken.append(spot)
        pen.canvas[spot.top : spot.bottom, spot.left : spot.right] = _BOX
        lines, scale = pen.fit(label, spot.width - 2 * pad, 1, SMALL_SCALE)
        pen.write(lines[0], spot.left + pad, spot.bottom - 6 * pen.unit, scale, _INK)


def _overlap(one: Box, other: Box) -> bool:
    is_beside = one.right <= other.left or other.right <= one.left
    return not (is_beside or one.bottom <= other.top or other.bottom <= one.top)
