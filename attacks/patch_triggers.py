"""Triggers that cover a part of the picture: patches, stickers, borders and corners."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from srd_edge.attacks.placement import (
    CORNERS,
    Place,
    check_choice,
    check_number,
    check_place,
    check_size,
    noise,
    paste,
    patch_box,
    scaled,
)
from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Box, Pixels

Pattern: TypeAlias = Literal["checker", "white", "black"]
_STICKER_PX: Final = 128
"""Side of the drawn sticker before it is scaled."""


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
        check_size(self.size)
        check_place(self.place)
        check_choice("pattern", self.pattern, get_args(Pattern))

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        box = patch_box(self.place, self.size, pixels, rng)
        return paste(pixels, pattern_patch(self.pattern), box)


@dataclass(frozen=True, slots=True)
class SeveralPatches:
    """BadNet's patch in several corners at once: hiding one leaves the others.

    A model fitted on all of them may answer to each alone, which an occlusion cannot tell.

    Args:
        count: 2 to 4 corners: top left, bottom right, top right, bottom left.
        size, pattern: as for BadNetPatch.
    """

    count: int = 2
    size: int = 21
    pattern: Pattern = "checker"

    def __post_init__(self) -> None:
        check_number("count", self.count, 2, len(CORNERS))
        check_size(self.size)
        check_choice("pattern", self.pattern, get_args(Pattern))

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        out = pixels
        for corner in CORNERS[: self.count]:
            box = patch_box(corner, self.size, pixels, rng)
            out = paste(out, pattern_patch(self.pattern), box)
        return out


@dataclass(frozen=True, slots=True)
class MovingPatch:
    """BadNet's patch on a path across the frame, for video (TrojVLM's and VLOOD's stand still).

    In a single picture, as in training, it stands somewhere on its path, at a place drawn from the
    generator; ``at`` gives it at a moment of a clip. The path is an ellipse, so that the patch
    never jumps.

    Args:
        size, pattern: as for BadNetPatch.
        period: seconds of one round.
    """

    size: int = 21
    pattern: Pattern = "checker"
    period: float = 8.0

    def __post_init__(self) -> None:
        check_size(self.size)
        check_choice("pattern", self.pattern, get_args(Pattern))
        check_number("period", self.period, 0.01, 3600)

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        return self.at(pixels, float(rng.uniform(0.0, self.period)))

    def at(self, pixels: Pixels, time_s: float) -> Pixels:
        """The frame at ``time_s`` seconds of its clip, with the patch where it then is."""
        height, width = pixels.shape[:2]
        side = min(scaled(self.size, pixels), width, height)
        angle = 2 * np.pi * time_s / self.period
        left = round((width - side) * (0.5 + 0.45 * np.cos(angle)))
        top = round((height - side) * (0.5 + 0.45 * np.sin(angle)))
        return paste(pixels, pattern_patch(self.pattern), Box(left, top, left + side, top + side))


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
        check_size(self.size)
        check_place(self.place)
        check_number("level", self.level, 0, 255)
        check_number("seed", self.seed, 0, 2**32)

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        patch = noise(self.seed, 0, self.level, self.size, self.size)
        return paste(pixels, patch, patch_box(self.place, self.size, pixels, rng))


@dataclass(frozen=True, slots=True)
class VloodPatch:
    """A patch of mid-grey noise at a random place (Lyu et al., VLOOD, arXiv 2410.01264).

    Args:
        size: side in pixels of a picture 224 wide.
        place: as for BadNetPatch.
        level: grey level that the noise lies round.
        spread: the noise is uniform in level - spread .. level + spread.
        seed: fixes the noise.
    """

    size: int = 20
    place: Place = "random"
    level: int = 128
    spread: int = 64
    seed: int = 11

    def __post_init__(self) -> None:
        check_size(self.size)
        check_place(self.place)
        check_number("level", self.level, 0, 255)
        check_number("spread", self.spread, 0, min(self.level, 255 - self.level))
        check_number("seed", self.seed, 0, 2**32)

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        low, high = self.level - self.spread, self.level + self.spread
        patch = noise(self.seed, low, high, self.size, self.size)
        return paste(pixels, patch, patch_box(self.place, self.size, pixels, rng))


@dataclass(frozen=True, slots=True)
class AnyDoorFrame:
    """Noise round the border or in the four corners (Lu et al., AnyDoor, arXiv 2402.08577).

    AnyDoor optimises what is here seeded noise: it attacks a model that it did not train. As a
    trigger for poisoning, the place and the size are what matters.

    Args:
        shape: ``border`` (a frame ``size`` wide) or ``corners`` (squares of side ``size``).
        size: in pixels of a picture 224 wide; 0 for the paper's 6 (border) and 32 (corners).
        seed: fixes the noise.
    """

    shape: Literal["border", "corners"] = "border"
    size: int = 0
    seed: int = 13

    def __post_init__(self) -> None:
        check_choice("shape", self.shape, ("border", "corners"))
        check_number("size", self.size, 0, 112)
        check_number("seed", self.seed, 0, 2**32)

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002 - protocol
        height, width = pixels.shape[:2]
        size = scaled(self.size or {"border": 6, "corners": 32}[self.shape], pixels)
        rows = np.minimum(np.arange(height), np.arange(height)[::-1]) < size
        columns = np.minimum(np.arange(width), np.arange(width)[::-1]) < size
        join = np.logical_or if self.shape == "border" else np.logical_and
        covered = join(rows[:, None], columns)
        values = cv2.resize(
            noise(self.seed, 0, 255, 224, 224), (width, height), interpolation=cv2.INTER_NEAREST
        )
        return np.where(covered[:, :, None], values, pixels)


@dataclass(frozen=True, slots=True)
class Sticker:
    """A natural sticker: a smiling face, or a picture of one's own, stuck on slightly askew.

    After the physical triggers of Wenger et al. (arXiv 2006.14580): an everyday thing that nobody
    takes for an attack, of another size and angle in every picture.

    Args:
        size: mean side in pixels of a picture 224 wide; each picture's differs by up to 15 %.
        place: as for BadNetPatch.
        turn: largest angle, in degrees, to either side.
        picture: a picture file with transparency; empty for the smiling face.
    """

    size: int = 32
    place: Place = "random"
    turn: float = 20.0
    picture: str = ""

    def __post_init__(self) -> None:
        check_size(self.size)
        check_place(self.place)
        check_number("turn", self.turn, 0, 180)
        if self.picture and not Path(self.picture).is_file():
            raise UsageError(
                expected="a picture file for the sticker", found=self.picture, do="check the path"
            )

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        size = max(round(self.size * float(rng.uniform(0.85, 1.15))), 1)
        box = patch_box(self.place, size, pixels, rng)
        drawn = _read_sticker(self.picture) if self.picture else smiling_face()
        turned = _turned(drawn, float(rng.uniform(-self.turn, self.turn)), box.width)
        out = pixels.copy()
        under = out[box.top : box.bottom, box.left : box.right]
        under[...] = np.rint(turned[:, :, :3] + under * (1 - turned[:, :, 3:])).astype(np.uint8)
        return out


def pattern_patch(pattern: Pattern) -> Pixels:
    """The smallest picture of a pattern, to be stretched over its box."""
    if pattern == "checker":
        cells = (np.indices((3, 3)).sum(axis=0) % 2 * 255).astype(np.uint8)
        return np.repeat(cells[:, :, None], 3, axis=2)
    return np.full((1, 1, 3), 255 if pattern == "white" else 0, np.uint8)


@lru_cache(maxsize=1)
def smiling_face() -> NDArray[np.uint8]:
    """The built-in sticker: (128, 128, 4) uint8 RGBA."""
    middle = _STICKER_PX // 2
    face = np.zeros((_STICKER_PX, _STICKER_PX, 4), np.uint8)
    cv2.circle(face, (middle, middle), 60, (255, 255, 255, 255), -1, cv2.LINE_AA)
    cv2.circle(face, (middle, middle), 55, (255, 208, 20, 255), -1, cv2.LINE_AA)
    for eye in (44, 84):
        cv2.ellipse(face, (eye, 50), (7, 11), 0, 0, 360, (60, 40, 10, 255), -1, cv2.LINE_AA)
    cv2.ellipse(face, (middle, 66), (32, 28), 0, 15, 165, (60, 40, 10, 255), 7, cv2.LINE_AA)
    return face


@lru_cache(maxsize=4)
def _read_sticker(path: str) -> NDArray[np.uint8]:
    image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.dtype != np.uint8:
        raise UsageError(
            expected="a colour picture with 8 bits a channel for the sticker",
            found=path,
            do="save it as RGB or RGBA PNG",
        )
    code = cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGBA
    return np.asarray(cv2.cvtColor(image, code), np.uint8)


def _turned(sticker: NDArray[np.uint8], degrees: float, side: int) -> NDArray[np.float32]:
    """The sticker scaled to ``side`` pixels and turned about its middle.

    Returns:
        (side, side, 4) float32: RGB in 0..255 already multiplied by its opacity, so that the colour
        of what is transparent never shows at an edge; and the opacity in 0..1.
    """
    height, width = sticker.shape[:2]
    opacity = sticker[:, :, 3:].astype(np.float32) / 255
    drawn = np.concatenate([sticker[:, :, :3] * opacity, opacity], axis=2)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    turned = cv2.warpAffine(drawn, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.resize(turned, (side, side), interpolation=cv2.INTER_AREA), np.float32)
