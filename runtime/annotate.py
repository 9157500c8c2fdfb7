"""A frame and its result as one picture that a person can read.

The frame itself on top, with a box and a name for every regional action; below it a band with the
verdict, the caption and, where there is one, what the undefended model would have said. The band
has the same height whatever it says, so that a video made of these pictures stands still.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import cv2
import numpy as np

from srd_edge.kernels.frames import Box, Frame, Pixels
from srd_edge.runtime.lettering import Colour, Pen
from srd_edge.runtime.records import AppliedAction, Result, Verdict

MIN_WIDTH_PX: Final = 640
"""Width of the band at least; smaller frames are scaled up to it."""
SCALED_UP_PX: Final = 720
"""No frame is made taller than this by scaling it up; it stands in the middle then."""
MAX_SIDE_PX: Final = 1920
"""Larger frames are scaled down to this: the picture is for eyes, the measurements are in JSON."""

_BAND: Final[Colour] = (22, 25, 30)
_TEXT: Final[Colour] = (242, 244, 247)
_DIM: Final[Colour] = (154, 162, 173)
_UNDEFENDED: Final[Colour] = (255, 170, 92)
_BOX: Final[Colour] = (255, 214, 10)
_INK: Final[Colour] = (20, 20, 20)
_WHITE: Final[Colour] = (255, 255, 255)
_NO_VERDICT: Final[Colour] = (106, 112, 122)
_BADGES: Final[dict[Verdict, Colour]] = {
    "clean": (35, 134, 54),
    "suspicious": (214, 84, 20),
    "held": _NO_VERDICT,
}

_MARGIN_PX: Final = 14
_BADGE_ROW_PX: Final = 44
_LINE_PX: Final = 27
_FOOT_PX: Final = 26
_CAPTION_LINES: Final = 2
_CAPTION_SCALE: Final = 0.68
_SMALL_SCALE: Final = 0.48


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
    everything = Box(0, 0, frame.pixels.shape[1], frame.pixels.shape[0])
    regional = [action for action in result.actions if action.box != everything]
    whole = [_readable(action.op) for action in result.actions if action.box == everything]
    picture = _picture(frame.pixels, regional)
    height, width = picture.shape[:2]
    unit = max(width / MIN_WIDTH_PX, 1.0)
    lines = _CAPTION_LINES * (2 if has_raw else 1)
    band_px = round((_BADGE_ROW_PX + lines * _LINE_PX + _FOOT_PX + 2 * _MARGIN_PX) * unit)
    band_px += (height + band_px) % 2
    canvas = np.empty((height + band_px, width, 3), np.uint8)
    canvas[:height] = picture
    canvas[height:] = _BAND
    cv2.line(canvas, (0, height), (width, height), _badge(result)[1], max(round(4 * unit), 1))
    notes = _notes(result, whole, len({action.box for action in regional}))
    _draw_band(Pen(canvas, unit), height, result, has_raw, notes)
    return canvas


def _draw_band(pen: Pen, top: int, result: Result, has_raw: bool, notes: str) -> None:
    unit, width = pen.unit, pen.canvas.shape[1]
    margin = _MARGIN_PX * unit
    y = top + margin + 15 * unit
    x = _draw_badge(pen, margin, y, *_badge(result))
    baseline = y + 6 * unit
    if result.suspicion is not None:
        x = _draw_meter(pen, x + margin, y, result.suspicion, _badge(result)[1])
    facts = f"#{result.frame}   {result.time_s:.2f} s   {result.total_ms:.0f} ms"
    if result.within_budget is False:
        facts += " late"
    left = width - margin - pen.width(facts, _SMALL_SCALE)
    if left > x:
        pen.write(facts, left, baseline, _SMALL_SCALE, _DIM)

    y = top + margin + _BADGE_ROW_PX * unit
    caption = result.caption
    _draw_paragraph(pen, y, caption or "(no caption yet that can be trusted)", caption, _TEXT)
    y += _CAPTION_LINES * _LINE_PX * unit
    if has_raw:
        raw = result.raw_caption
        colour = _DIM if raw == caption else _UNDEFENDED
        _draw_paragraph(pen, y, f"undefended: {raw or '(nothing)'}", raw, colour)
        y += _CAPTION_LINES * _LINE_PX * unit
    lines, scale = pen.fit(notes, width - 2 * margin, 1, _SMALL_SCALE)
    pen.write(lines[0], margin, y + 19 * unit, scale, _DIM)


def _badge(result: Result) -> tuple[str, Colour]:
    """What the badge says, and its colour: ``clean`` is no verdict where nobody has looked."""
    if result.suspicion is None and result.verdict == "clean":
        return "UNDEFENDED", _NO_VERDICT
    return result.verdict.upper(), _BADGES[result.verdict]


def _draw_badge(pen: Pen, left: float, middle: float, text: str, colour: Colour) -> float:
    """Draw the verdict on its colour; returns where it ends."""
    unit = pen.unit
    right = left + pen.width(text, 0.6, bold=True) + 24 * unit
    box = Box(round(left), round(middle - 15 * unit), round(right), round(middle + 15 * unit))
    _fill_rounded(pen.canvas, box, round(6 * unit), colour)
    pen.write(text, left + 12 * unit, middle + 7 * unit, 0.6, _WHITE, bold=True)
    return right


def _draw_meter(pen: Pen, left: float, middle: float, suspicion: float, full: Colour) -> float:
    """Draw the suspicion as a word, a bar and a number; returns where it ends."""
    unit, length = pen.unit, 90 * pen.unit
    pen.write("suspicion", left, middle + 6 * unit, _SMALL_SCALE, _DIM)
    left += pen.width("suspicion", _SMALL_SCALE) + 10 * unit
    share = min(max(suspicion, 0.0), 1.0)
    for part, colour in ((1.0, (58, 64, 73)), (share, full)):
        if part * length >= 1.0:
            start = round(left), round(middle - 3 * unit)
            end = round(left + part * length), round(middle + 3 * unit)
            cv2.rectangle(pen.canvas, start, end, colour, -1)
    left += length + 10 * unit
    number = f"{suspicion:.2f}"
    pen.write(number, left, middle + 6 * unit, _SMALL_SCALE, _TEXT)
    return left + pen.width(number, _SMALL_SCALE) + 10 * unit


def _draw_paragraph(pen: Pen, top: float, text: str, said: str | None, colour: Colour) -> None:
    margin = _MARGIN_PX * pen.unit
    room = pen.canvas.shape[1] - 2 * margin
    lines, scale = pen.fit(text, room, _CAPTION_LINES, _CAPTION_SCALE)
    for number, line in enumerate(lines):
        baseline = top + (number * _LINE_PX + 21) * pen.unit
        pen.write(line, margin, baseline, scale, colour if said else _DIM)


def _notes(result: Result, whole: Sequence[str], regions: int) -> str:
    """What was done to the whole frame, how old the caption is and what was given up."""
    parts = []
    if whole:
        parts.append(f"whole frame: {', '.join(whole)}")
    if regions:
        parts.append(_plural(regions, "region") + " covered")
    if result.held_for is not None:
        parts.append(f"caption from {_plural(result.held_for, 'frame')} ago")
    if result.degraded:
        parts.append(f"given up: {', '.join(_readable(what) for what in result.degraded)}")
    return "  |  ".join(parts) or "nothing laid over the frame"


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
    picture[:, left : left + new_width] = cv2.resize(
        pixels, (new_width, new_height), interpolation=way
    )
    named: dict[Box, list[str]] = {}
    for action in regional:
        names = named.setdefault(action.box.clipped(width, height), [])
        if _readable(action.op) not in names:
            names.append(_readable(action.op))
    labels = {}
    for box, names in named.items():
        place = box.scaled(new_width / width, new_height / height)
        shifted = Box(place.left + left, place.top, place.right + left, place.bottom)
        labels[shifted] = " + ".join(names)
    _draw_boxes(Pen(picture, max(full_width / MIN_WIDTH_PX, 1.0)), labels)
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
        tag_width = min(round(pen.width(label, _SMALL_SCALE)) + 2 * pad, width)
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
        lines, scale = pen.fit(label, spot.width - 2 * pad, 1, _SMALL_SCALE)
        pen.write(lines[0], spot.left + pad, spot.bottom - 6 * pen.unit, scale, _INK)


def _overlap(one: Box, other: Box) -> bool:
    is_beside = one.right <= other.left or other.right <= one.left
    return not (is_beside or one.bottom <= other.top or other.bottom <= one.top)


def _fill_rounded(canvas: Pixels, box: Box, radius: int, colour: Colour) -> None:
    radius = min(radius, box.width // 2, box.height // 2)
    right, bottom = box.right - 1, box.bottom - 1
    cv2.rectangle(canvas, (box.left + radius, box.top), (right - radius, bottom), colour, -1)
    cv2.rectangle(canvas, (box.left, box.top + radius), (right, bottom - radius), colour, -1)
    for x in (box.left + radius, right - radius):
        for y in (box.top + radius, bottom - radius):
            cv2.circle(canvas, (x, y), radius, colour, -1, cv2.LINE_AA)


def _readable(name: str) -> str:
    return name.replace("_", " ")


def _plural(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
