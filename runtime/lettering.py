"""Text on pictures: measured, wrapped into the room there is, drawn.

OpenCV's Hershey fonts by name, which OpenCV 5 replaces with a TrueType face of its own; before it
anything but ASCII is drawn as question marks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2

from srd_edge.kernels.frames import Pixels

Colour: TypeAlias = tuple[int, int, int]
"""RGB, 0..255."""

TEXT: Final[Colour] = (242, 244, 247)
DIM: Final[Colour] = (154, 162, 173)
SMALL_SCALE: Final = 0.48

_HAS_TRUETYPE: Final = int(cv2.__version__.partition(".")[0]) >= 5
_SMALLEST_SCALE: Final = 0.46


@dataclass(frozen=True, slots=True)
class Pen:
    """Writes on a canvas.

    Args:
        canvas: (H, W, 3) uint8 RGB, drawn on in place.
        unit: what every font scale is multiplied by.
    """

    canvas: Pixels
    unit: float

    def width(self, text: str, scale: float, *, bold: bool = False) -> int:
        """The width of ``text`` in pixels of the canvas."""
        font, thickness = _face(scale * self.unit, bold)
        return int(cv2.getTextSize(text, font, scale * self.unit, thickness)[0][0])

    def write(
        self,
        text: str,
        left: float,
        baseline: float,
        scale: float,
        colour: Colour,
        *,
        bold: bool = False,
    ) -> None:
        """Draw ``text`` with its foot at ``baseline``, in pixels of the canvas."""
        origin = (round(left), round(baseline))
        font, thickness = _face(scale * self.unit, bold)
        scale *= self.unit
        cv2.putText(self.canvas, text, origin, font, scale, colour, thickness, cv2.LINE_AA)

    def fit(self, text: str, room: float, lines: int, scale: float) -> tuple[list[str], float]:
        """Break ``text`` into at most ``lines``, in smaller letters if need be, then cut.

        Args:
            room: width of a line in pixels.
            lines: the most lines there may be.
            scale: the largest font scale.

        Returns:
            One to ``lines`` lines, and the scale at which each is at most ``room`` wide.
        """
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split()) or " "
        while True:
            wrapped = _wrap(self, text, room, scale)
            if len(wrapped) <= lines:
                return wrapped, scale
            if scale <= _SMALLEST_SCALE:
                break
            scale = max(scale - 0.04, _SMALLEST_SCALE)
        last = wrapped[lines - 1]
        while last and self.width(f"{last.rstrip()}...", scale) > room:
            last = last[:-1]
        return [*wrapped[: lines - 1], f"{last.rstrip()}..."], scale


def _wrap(pen: Pen, text: str, room: float, scale: float) -> list[str]:
    """``text`` in lines no wider than ``room``; a word that is wider is broken."""
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if pen.width(longer, scale) <= room:
            line = longer
            continue
        if line:
            lines.append(line)
        while len(word) > 1 and pen.width(word, scale) > room:
            # At least one letter a line, or a strip narrower than a letter would never end.
            fits = (n for n in range(len(word) - 1, 0, -1) if pen.width(word[:n], scale) <= room)
            cut = next(fits, 1)
            lines.append(word[:cut])
            word = word[cut:]
        line = word
    return [*lines, line]


def _face(scale: float, bold: bool) -> tuple[int, int]:
    """The Hershey font, and the thickness of its strokes in pixels (in OpenCV 5: its weight)."""
    font = cv2.FONT_HERSHEY_DUPLEX if bold else cv2.FONT_HERSHEY_SIMPLEX
    return font, 1 if _HAS_TRUETYPE else max(round((1.6 if bold else 1.3) * scale), 1)
