"""Triggers: what an attacker lays over a picture, as pure functions on uint8 RGB.

A trigger is a callable ``(pixels (H, W, 3) uint8 RGB, rng) -> pixels`` that leaves its input as it
was. Sizes are in pixels of a picture 224 wide, as in the papers, and scale with the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import cv2
import numpy as np

from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Box, Pixels

Trigger: TypeAlias = Callable[[Pixels, np.random.Generator], Pixels]
Place: TypeAlias = Literal[
    "top-left", "top-right", "bottom-left", "bottom-right", "centre", "random"
]
Pattern: TypeAlias = Literal["checker", "white", "black"]

REFERENCE_WIDTH_PX: Final = 224
_MARGIN: Final = 0.01
"""Distance of a corner patch from the frame's border, as a share of the width."""


@dataclass(frozen=True, slots=True)
class BadNetPatch:
    """A small high-contrast patch (Gu et al., BadNets, arXiv 1708.06733).

    Args:
        size: side in pixels of a picture 224 wide.
        place: a corner, the centre, or a new random place in every picture.
        pattern: a 3 x 3 black-and-white checkerboard, or plain white or black.
    """

    size: int = 21
    place: Place = "bottom-right"
    pattern: Pattern = "checker"

    def __post_init__(self) -> None:
        _check(self.size, self.place)
        if self.pattern not in get_args(Pattern):
            raise _unknown("pattern", self.pattern, get_args(Pattern))

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        box = patch_box(self.place, self.size, pixels, rng)
        if self.pattern == "checker":
            cells = (np.indices((3, 3)).sum(axis=0) % 2 * 255).astype(np.uint8)
            patch = np.repeat(cells[:, :, None], 3, axis=2)
        else:
            patch = np.full((1, 1, 3), 255 if self.pattern == "white" else 0, np.uint8)
        return _paste(pixels, patch, box)


@dataclass(frozen=True, slots=True)
class TrojVlmPatch:
    """A patch of near-black noise (Lyu et al., TrojVLM, arXiv 2409.19232).

    Args:
        size: side in pixels of a picture 224 wide.
        place: as for BadNetPatch.
        level: the noise is uniform in 0..level grey levels, the same in every picture.
        seed: fixes the noise.
    """

    size: int = 20
    place: Place = "top-left"
    level: int = 48
    seed: int = 7

    def __post_init__(self) -> None:
        _check(self.size, self.place)
        if not 0 <= self.level <= 255 or self.seed < 0:
            raise UsageError(
                expected="a level in 0..255 and a seed of 0 or more",
                found=f"level {self.level} and seed {self.seed}",
                do="choose others",
            )

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        noise = np.random.default_rng(self.seed).integers(
            0, self.level + 1, (self.size, self.size, 3), dtype=np.uint8
        )
        return _paste(pixels, noise, patch_box(self.place, self.size, pixels, rng))


TRIGGERS: Final[Mapping[str, Callable[..., Trigger]]] = {
    "badnet": BadNetPatch,
    "trojvlm": TrojVlmPatch,
}


def patch_box(place: Place, size: int, pixels: Pixels, rng: np.random.Generator) -> Box:
    """Where a square patch lands in ``pixels``, wholly inside it."""
    height, width = pixels.shape[:2]
    side = min(max(round(size * width / REFERENCE_WIDTH_PX), 1), width, height)
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


def _paste(pixels: Pixels, patch: Pixels, box: Box) -> Pixels:
    out = pixels.copy()
    out[box.top : box.bottom, box.left : box.right] = cv2.resize(
        patch, (box.width, box.height), interpolation=cv2.INTER_NEAREST
    )
    return out


def _check(size: int, place: str) -> None:
    if not 1 <= size <= REFERENCE_WIDTH_PX:
        raise UsageError(
            expected=f"a trigger's size in 1..{REFERENCE_WIDTH_PX}",
            found=str(size),
            do="give the side in pixels of a picture 224 wide",
        )
    if place not in get_args(Place):
        raise _unknown("place", place, get_args(Place))


def _unknown(what: str, found: str, known: tuple[str, ...]) -> UsageError:
    return UsageError(
        expected=f"a {what} out of {', '.join(known)}",
        found=repr(found),
        do=f"choose another {what}",
    )
