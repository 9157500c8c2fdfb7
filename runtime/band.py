"""What stands below an annotated frame: the verdict, the caption, and why they are what they are.

From top to bottom: the verdict, the suspicion and the time; the caption and, where captions are
compared, what the undefended model would have said; what was done to the frame; who speaks, and
what the check thought of it, in nats. On the right, where a policy looked, its Q-map. The band has
the same height whatever it says, so that a video made of it stands still.
"""

from __future__ import annotations

from typing import Final

import cv2

from srd_edge.kernels.frames import Box, Pixels
from srd_edge.runtime.heat import draw_heat
from srd_edge.runtime.lettering import DIM, SMALL_SCALE, TEXT, Colour, Pen
from srd_edge.runtime.reasons import done_to, standing
from srd_edge.runtime.records import Opinion, Result, Verdict

_BAND: Final[Colour] = (22, 25, 30)
_UNDEFENDED: Final[Colour] = (255, 170, 92)
_REFERENCE: Final[Colour] = (126, 190, 255)
_REFUSED: Final[Colour] = (255, 122, 92)
_WHITE: Final[Colour] = (255, 255, 255)
_GREY: Final[Colour] = (106, 112, 122)
_BADGES: Final[dict[Verdict, Colour]] = {
    "clean": (35, 134, 54),
    "suspicious": (214, 84, 20),
    "held": _GREY,
    "undefended": _GREY,
}

_MARGIN_PX: Final = 14
_BADGE_ROW_PX: Final = 44
_LINE_PX: Final = 27
_GAP_PX: Final = 4
_ROW_PX: Final = 22
_SCORES_PX: Final = 44
_HEAT_PX: Final = 160
_CAPTION_LINES: Final = 2
_CAPTION_SCALE: Final = 0.68
_SCORE_COLUMNS: Final = (0.0, 0.34, 0.58)
"""Where the check's scores begin, as shares of the room for text."""


def band_height(unit: float, compare: bool) -> int:
    """Pixels below the frame; ``unit`` as a Pen's, ``compare`` with room for the raw caption."""
    lines = _CAPTION_LINES * (2 if compare else 1)
    rows_px = _BADGE_ROW_PX + lines * _LINE_PX + _GAP_PX + 2 * _ROW_PX + _SCORES_PX
    return round((rows_px + 2 * _MARGIN_PX) * unit)


def draw_band(pen: Pen, top: int, pixels: Pixels, result: Result, *, compare: bool) -> None:
    """Fill the canvas from ``top`` down.

    Args:
        pen: of the whole canvas.
        top: the first row of the band.
        pixels: (H, W, 3) uint8 RGB, the frame as it came.
        result: of this frame.
        compare: whether there is room for the raw caption.
    """
    unit, (height, width) = pen.unit, pen.canvas.shape[:2]
    cv2.rectangle(pen.canvas, (0, top), (width, height), _BAND, -1)
    cv2.line(pen.canvas, (0, top), (width, top), _BADGES[result.verdict], max(round(4 * unit), 1))
    margin = _MARGIN_PX * unit
    _draw_head(pen, top + margin, result)
    y, right = top + margin + _BADGE_ROW_PX * unit, width - margin
    if result.q_map is not None:
        left = right - _HEAT_PX * unit
        room = Box(round(left), round(y), round(right), round(height - margin))
        draw_heat(pen, room, pixels, result.q_map)
        right = left - margin

    caption = result.caption
    said = caption or f"({'no caption yet' if caption is None else 'an empty caption'})"
    _draw_paragraph(pen, y, right, said, TEXT if caption else DIM)
    y += _CAPTION_LINES * _LINE_PX * unit
    if compare:
        raw = result.raw_caption
        is_news = bool(raw) and raw != caption
        _draw_paragraph(
            pen, y, right, f"undefended: {raw or '(nothing)'}", _UNDEFENDED if is_news else DIM
        )
        y += _CAPTION_LINES * _LINE_PX * unit
    y += _GAP_PX * unit
    _draw_row(pen, y, right, done_to(pixels, result), DIM)
    y += _ROW_PX * unit
    _draw_row(pen, y, right, *_standing(result))
    y += _ROW_PX * unit
    if result.opinion is not None:
        _draw_scores(pen, y, right, result.opinion)


def _draw_head(pen: Pen, top: float, result: Result) -> None:
    unit, margin = pen.unit, _MARGIN_PX * pen.unit
    y = top + 15 * unit
    x = _draw_badge(pen, margin, y, result.verdict)
    if result.suspicion is not None:
        x = _draw_meter(pen, x + margin, y, result.suspicion, _BADGES[result.verdict])
    facts = f"#{result.frame}   {result.time_s:.2f} s   {result.total_ms:.0f} ms"
    if result.within_budget is False:
        facts += " late"
    left = pen.canvas.shape[1] - margin - pen.width(facts, SMALL_SCALE)
    if left > x:
        pen.write(facts, left, y + 6 * unit, SMALL_SCALE, DIM)


def _draw_badge(pen: Pen, left: float, middle: float, verdict: Verdict) -> float:
    """Draw the verdict on its colour; returns where it ends."""
    unit, text = pen.unit, verdict.upper()
    right = left + pen.width(text, 0.6, bold=True) + 24 * unit
    box = Box(round(left), round(middle - 15 * unit), round(right), round(middle + 15 * unit))
    _fill_rounded(pen.canvas, box, round(6 * unit), _BADGES[verdict])
    pen.write(text, left + 12 * unit, middle + 7 * unit, 0.6, _WHITE, bold=True)
    return right


def _draw_meter(pen: Pen, left: float, middle: float, suspicion: float, full: Colour) -> float:
    """Draw the suspicion as a word, a bar and a number; returns where it ends."""
    unit, length = pen.unit, 90 * pen.unit
    pen.write("suspicion", left, middle + 6 * unit, SMALL_SCALE, DIM)
    left += pen.width("suspicion", SMALL_SCALE) + 10 * unit
    share = min(max(suspicion, 0.0), 1.0)
    for part, colour in ((1.0, (58, 64, 73)), (share, full)):
        if part * length >= 1.0:
            start = round(left), round(middle - 3 * unit)
            end = round(left + part * length), round(middle + 3 * unit)
            cv2.rectangle(pen.canvas, start, end, colour, -1)
    left += length + 10 * unit
    number = f"{suspicion:.2f}"
    pen.write(number, left, middle + 6 * unit, SMALL_SCALE, TEXT)
    return left + pen.width(number, SMALL_SCALE) + 10 * unit


def _draw_paragraph(pen: Pen, top: float, right: float, text: str, colour: Colour) -> None:
    margin = _MARGIN_PX * pen.unit
    lines, scale = pen.fit(text, right - margin, _CAPTION_LINES, _CAPTION_SCALE)
    for number, line in enumerate(lines):
        baseline = top + (number * _LINE_PX + 21) * pen.unit
        pen.write(line, margin, baseline, scale, colour)


def _draw_row(pen: Pen, top: float, right: float, text: str, colour: Colour) -> None:
    margin = _MARGIN_PX * pen.unit
    lines, scale = pen.fit(text, right - margin, 1, SMALL_SCALE)
    pen.write(lines[0], margin, top + 16 * pen.unit, scale, colour)


def _draw_scores(pen: Pen, top: float, right: float, opinion: Opinion) -> None:
    """The check's three scores, each below its name."""
    if opinion.contradiction is None:
        against = "no reference captioner" if opinion.refused else "reference not asked"
        colour = DIM
    else:
        found = "refused" if opinion.refused else "not refused"
        against = f"{opinion.contradiction:.1f} nats, {found}"
        colour = _REFUSED if opinion.refused else TEXT
    scores = (
        ("confidence", f"{opinion.confidence:.2f} nats a token", TEXT),
        ("information", f"{opinion.information:.1f} nats", TEXT),
        ("contradiction", against, colour),
    )
    margin, unit = _MARGIN_PX * pen.unit, pen.unit
    room = right - margin
    for start, end, (name, score, colour) in zip(
        _SCORE_COLUMNS, (*_SCORE_COLUMNS[1:], 1.0), scores, strict=True
    ):
        left = margin + start * room
        for line, text, ink in ((18, name, DIM), (36, score, colour)):
            lines, scale = pen.fit(text, (end - start) * room - 8 * unit, 1, SMALL_SCALE)
            pen.write(lines[0], left, top + line * unit, scale, ink)


def _standing(result: Result) -> tuple[str, Colour]:
    """Whose the caption is and why, and in which colour to say it."""
    is_refused = result.opinion is not None and result.opinion.refused
    colour = DIM
    if is_refused or result.speaker == "reference":
        is_empty = result.speaker == "suspect" and result.verdict == "held"
        colour = _REFUSED if is_empty else _REFERENCE
    return standing(result), colour


def _fill_rounded(canvas: Pixels, box: Box, radius: int, colour: Colour) -> None:
    radius = min(radius, box.width // 2, box.height // 2)
    right, bottom = box.right - 1, box.bottom - 1
    cv2.rectangle(canvas, (box.left + radius, box.top), (right - radius, bottom), colour, -1)
    cv2.rectangle(canvas, (box.left, box.top + radius), (right, bottom - radius), colour, -1)
    for x in (box.left + radius, right - radius):
        for y in (box.top + radius, bottom - radius):
            cv2.circle(canvas, (x, y), radius, colour, -1, cv2.LINE_AA)
