"""The Q-map as a small picture: where the policy sees a gain in perturbing, and how much.

The frame, dim and grey, under the cells in which some perturbation is worth more than stopping; the
larger the gain, the brighter the cell. A frame that the policy would leave alone stays grey.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.frames import Box, Pixels
from srd_edge.runtime.lettering import DIM, SMALL_SCALE, TEXT, Colour, Pen

FULL_HEAT: Final = 0.1
"""A gain that is shown at full heat; where there are larger ones, the largest is."""

_FAINT: Final[Colour] = (196, 52, 16)
_BRIGHT: Final[Colour] = (255, 226, 64)
_LINES: Final[Colour] = (22, 25, 30)
_LABEL_PX: Final = 38
_MOST_OBLONG: Final = 2.5


def heat(q_map: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each cell stands out: (rows, columns) float32 in 0..1, 0 where stop is better.

    Squared, so that the best cells stand out from a frame that is suspicious everywhere.
    """
    gain = np.maximum(q_map, 0.0)
    return np.square(gain / max(float(gain.max()), FULL_HEAT), dtype=np.float32)


def draw_heat(pen: Pen, room: Box, pixels: Pixels, q_map: NDArray[np.float32]) -> None:
    """Draw the map and what it says at its best cell.

    Args:
        pen: of the whole canvas.
        room: where to draw; the map takes the shape of the frame as far as it fits.
        pixels: (H, W, 3) uint8 RGB, the frame as it came.
        q_map: (rows, columns) float32 as in Result.
    """
    unit = pen.unit
    label_px = round(_LABEL_PX * unit)
    oblong = pixels.shape[1] / pixels.shape[0]
    oblong = min(max(oblong, 1 / _MOST_OBLONG), _MOST_OBLONG)
    width = min(room.width, round((room.height - label_px) * oblong))
    height = min(room.height - label_px, round(width / oblong))
    bottom = room.top + height
    pen.canvas[room.top : bottom, room.left : room.left + width] = _map(
        pixels, q_map, width, height, max(round(unit), 1)
    )
    best = float(q_map.max())
    said = f"{best:+.2f} in the best cell" if best > 0 else f"none: {best:.2f} at best"
    for line, text, colour in (
        (16, "policy: gain by acting", DIM),
        (34, said, TEXT if best > 0 else DIM),
    ):
        lines, scale = pen.fit(text, room.width, 1, SMALL_SCALE)
        pen.write(lines[0], room.left, bottom + line * unit, scale, colour)


def _map(
    pixels: Pixels, q_map: NDArray[np.float32], width: int, height: int, line_px: int
) -> Pixels:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)[..., None]
    cells = cv2.resize(heat(q_map), (width, height), interpolation=cv2.INTER_NEAREST)[..., None]
    faint, bright = np.array(_FAINT, np.float32), np.array(_BRIGHT, np.float32)
    alpha = 0.85 * cells
    dim = np.float32(0.3) * small + 25
    shown = dim * (1 - alpha) + (faint + (bright - faint) * cells) * alpha
    picture: Pixels = np.rint(shown).astype(np.uint8)
    rows, columns = q_map.shape
    for row in range(1, rows):
        y = round(row * height / rows)
        cv2.line(picture, (0, y), (width, y), _LINES, line_px)
    for column in range(1, columns):
        x = round(column * width / columns)
        cv2.line(picture, (x, 0), (x, height), _LINES, line_px)
    return picture
