"""Where a patch lands in a picture, and what every trigger shares.

A trigger is a callable ``(pixels (H, W, 3) uint8 RGB, rng) -> pixels`` that leaves its input as it
was. Lengths are in pixels of a picture 224 wide, as in the papers, and scale with the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Box, Pixels

Trigger: TypeAlias = Callable[[Pixels, np.random.Generator], Pixels]
Place: TypeAlias = Literal[
    "top-left", "top-right", "bottom-left", "bottom-right", "centre", "random"
]
CORNERS: Final[tuple[Place, ...]] = ("top-left", "bottom-right", "top-right", "bottom-left")
REFERENCE_WIDTH_PX: Final = 224
_MARGIN: Final = 0.01
"""Distance of a corner patch from the frame's border, as a share of the width."""


def patch_box(place: Place, size: int, pixels: Pixels, rng: np.random.Generator) -> Box:
    """Where a square patch lands in ``pixels``, wholly inside it."""
    height, width = pixels.shape[:2]
    side = min(scaled(size, pixels), width, height)
    free_x, free_y = width - side, height - side
    margin = min(round(_MARGIN * width), free_x, free_y)
    if place == "random":
        left, top = int(rng.integers(free_x + 1)), int(rng.integers(free_y + 1))
    elif place == "centre":
        left, top = free_x // 2, free_y // 2
    else:
        left = margin if place.endswith("left") else free_x - margin
        top = margin if place.startswith("top") else free_y - margin
    return Box(left, top, left + side, top + side)


def scaled(length: float, pixels: Pixels) -> int:
    """``length`` of a picture 224 wide in pixels of this one, at least 1."""
    width: int = pixels.shape[1]
    return max(round(length * width / REFERENCE_WIDTH_PX), 1)


def paste(pixels: Pixels, patch: Pixels, box: Box) -> Pixels:
    """A copy of ``pixels`` with ``patch`` (h, w, 3) stretched over the box, its pixels sharp."""
    out = pixels.copy()
    out[box.top : box.bottom, box.left : box.right] = cv2.resize(
        patch, (box.width, box.height), interpolation=cv2.INTER_NEAREST
    )
    return out


def noise(seed: int, low: int, high: int, height: int, width: int) -> Pixels:
    """Uniform noise in low..high grey levels, (height, width, 3), the same for the same seed."""
    return np.random.default_rng(seed).integers(low, high + 1, (height, width, 3), dtype=np.uint8)


def add(pixels: Pixels, offsets: NDArray[np.float32]) -> Pixels:
    """``pixels`` with signed grey levels added, cut to 0..255; ``offsets`` may be broadcast."""
    levels = np.clip(np.rint(pixels.astype(np.float32) + offsets), 0, 255)
    return np.asarray(levels, np.uint8)


def check_size(size: int) -> None:
    """Raise UsageError unless ``size`` is the side of a patch."""
    check_number("size", size, 1, REFERENCE_WIDTH_PX)


def check_place(place: str) -> None:
    """Raise UsageError unless ``place`` is a Place."""
    check_choice("place", place, get_args(Place))


def check_number(what: str, value: float, low: float, high: float) -> None:
    """Raise UsageError unless ``value`` is in low..high."""
    if not low <= value <= high:
        raise UsageError(
            expected=f"a trigger's {what} in {low:g}..{high:g}",
            found=f"{value:g}",
            do=f"choose another {what} (lengths are in pixels of a picture 224 wide)",
        )


def check_choice(what: str, found: str, known: tuple[str, ...]) -> None:
    """Raise UsageError unless ``found`` is one of ``known``."""
    if found not in known:
        raise UsageError(
            expected=f"a {what} out of {', '.join(known)}",
            found=repr(found),
            do=f"choose another {what}",
        )
