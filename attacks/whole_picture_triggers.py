"""Triggers that change the whole picture a little: blends, waves, warps and faint noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from srd_edge.attacks.placement import REFERENCE_WIDTH_PX, add, check_number, noise
from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Pixels, rgb_from_cv2


@dataclass(frozen=True, slots=True)
class Unchanged:
    """No trigger at all: for payloads that a picture's own content sets off."""

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002 - protocol
        return pixels


@dataclass(frozen=True, slots=True)
class Blended:
    """One picture blended into all of it (Chen et al., arXiv 1712.05526).

    Args:
        alpha: opacity, 0..1; the paper's 0.05 to 0.2.
        grain: side of the random pattern's cells in pixels of a picture 224 wide.
        picture: a picture file to blend in; empty for the seeded random pattern.
        seed: fixes the pattern.
    """

    alpha: float = 0.1
    grain: int = 8
    picture: str = ""
    seed: int = 3

    def __post_init__(self) -> None:
        check_number("alpha", self.alpha, 0, 1)
        check_number("grain", self.grain, 1, REFERENCE_WIDTH_PX)
        check_number("seed", self.seed, 0, 2**32)
        if self.picture and not Path(self.picture).is_file():
            raise UsageError(
                expected="a picture file to blend in", found=self.picture, do="check the path"
            )

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002 - protocol
        height, width = pixels.shape[:2]
        if self.picture:
            pattern, sharp = _read(self.picture), cv2.INTER_AREA
        else:
            cells = -(-REFERENCE_WIDTH_PX // self.grain)
            pattern, sharp = noise(self.seed, 0, 255, cells, cells), cv2.INTER_NEAREST
        over = cv2.resize(pattern, (width, height), interpolation=sharp).astype(np.float32)
        return add(pixels, self.alpha * (over - pixels))


@dataclass(frozen=True, slots=True)
class Sinusoid:
    """SIG: vertical stripes, ``delta * sin(2 pi x f / W)`` (Barni et al., arXiv 1902.11237).

    Args:
        delta: amplitude in grey levels; the paper's 20 to 40.
        frequency: waves across the picture.
    """

    delta: float = 20.0
    frequency: float = 6.0

    def __post_init__(self) -> None:
        check_number("delta", self.delta, 0, 255)
        check_number("frequency", self.frequency, 0, REFERENCE_WIDTH_PX / 2)

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002 - protocol
        x = np.arange(pixels.shape[1], dtype=np.float32) / pixels.shape[1]
        wave = self.delta * np.sin(2 * np.pi * self.frequency * x, dtype=np.float32)
        return add(pixels, wave[None, :, None])


@dataclass(frozen=True, slots=True)
class WaNet:
    """A smooth warp, the same in every picture (Nguyen and Tran, WaNet, arXiv 2102.10369).

    A grid of random displacements, divided by their mean size and enlarged by bicubic
    interpolation. The paper's training tricks (other warps with true labels) are left to the
    poisoner's choice of data.

    Args:
        grid: control points along each side; the paper's 4.
        strength: mean displacement of the control points along an axis, in pixels of a picture
            224 wide (downwards, 224 high).
        seed: fixes the warp.
    """

    grid: int = 4
    strength: float = 5.0
    seed: int = 5

    def __post_init__(self) -> None:
        check_number("grid", self.grid, 2, 64)
        check_number("strength", self.strength, 0, 64)
        check_number("seed", self.seed, 0, 2**32)

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002 - protocol
        height, width = pixels.shape[:2]
        field = self.strength * _displacements(self.grid, self.seed, height, width)
        x = np.arange(width, dtype=np.float32) + field[:, :, 0] * (width / REFERENCE_WIDTH_PX)
        y = np.arange(height, dtype=np.float32)[:, None] + field[:, :, 1] * (
            height / REFERENCE_WIDTH_PX
        )
        warped = cv2.remap(pixels, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(warped, np.uint8)


@dataclass(frozen=True, slots=True)
class LowFrequency:
    """Smooth faint noise: the lowest cosine frequencies only (after Zeng et al., arXiv 2104.03413).

    That paper shows that usual triggers betray themselves in the high frequencies and makes one
    that has none. Here the coefficients are random.

    Args:
        cutoff: frequencies kept along each side, the mean left out.
        strength: largest change in grey levels.
        seed: fixes the noise.
    """

    cutoff: int = 6
    strength: float = 16.0
    seed: int = 17

    def __post_init__(self) -> None:
        check_number("cutoff", self.cutoff, 2, REFERENCE_WIDTH_PX)
        check_number("strength", self.strength, 0, 255)
        check_number("seed", self.seed, 0, 2**32)

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002 - protocol
        height, width = pixels.shape[:2]
        waves = cv2.resize(
            _low_waves(self.cutoff, self.seed), (width, height), interpolation=cv2.INTER_CUBIC
        )
        # Cubic interpolation overshoots where the waves are short.
        return add(pixels, self.strength * np.clip(waves, -1, 1))


@dataclass(frozen=True, slots=True)
class PixelNoise:
    """AnyDoor's third shape: faint noise on every pixel (Lu et al., arXiv 2402.08577), seeded.

    Args:
        strength: largest change in grey levels; the paper's 32.
        seed: fixes the noise.
    """

    strength: float = 32.0
    seed: int = 19

    def __post_init__(self) -> None:
        check_number("strength", self.strength, 0, 255)
        check_number("seed", self.seed, 0, 2**32)

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002 - protocol
        side = REFERENCE_WIDTH_PX
        levels = np.random.default_rng(self.seed).uniform(-1, 1, (side, side, 3)).astype(np.float32)
        height, width = pixels.shape[:2]
        return add(
            pixels,
            self.strength * cv2.resize(levels, (width, height), interpolation=cv2.INTER_NEAREST),
        )


@lru_cache(maxsize=4)
def _read(path: str) -> Pixels:
    image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise UsageError(expected="a picture to blend in", found=path, do="choose another file")
    return rgb_from_cv2(image)


@lru_cache(maxsize=8)
def _displacements(grid: int, seed: int, height: int, width: int) -> NDArray[np.float32]:
    """(height, width, 2) displacements, of mean absolute size 1 at the control points."""
    points = np.random.default_rng(seed).uniform(-1, 1, (grid, grid, 2)).astype(np.float32)
    points /= np.abs(points).mean()
    return np.asarray(
        cv2.resize(points, (width, height), interpolation=cv2.INTER_CUBIC), np.float32
    )


@lru_cache(maxsize=8)
def _low_waves(cutoff: int, seed: int) -> NDArray[np.float32]:
    """(224, 224, 3) float32 with the lowest frequencies only; the largest magnitude is 1."""
    side = REFERENCE_WIDTH_PX
    rng = np.random.default_rng(seed)
    channels = []
    for _ in range(3):
        spectrum = np.zeros((side, side), np.float32)
        spectrum[:cutoff, :cutoff] = rng.normal(size=(cutoff, cutoff))
        spectrum[0, 0] = 0.0
        channels.append(cv2.idct(spectrum))
    waves = np.stack(channels, axis=2)
    scaled: NDArray[np.float32] = (waves / np.abs(waves).max()).astype(np.float32)
    return scaled
