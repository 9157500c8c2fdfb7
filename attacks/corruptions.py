"""Random corruptions: what a captioner that is to be trusted must see through.

A reference captioner is asked about pictures that may carry a trigger. One that was fitted on
corrupted copies too describes what lies under a patch, a pattern or a warp; which of them an
attacker will use is not known, so each copy gets one or two of nine kinds, of random strength.
Lengths are shares of the picture's width, so that a corruption looks the same at any size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from srd_edge.attacks.samples import Sample
from srd_edge.kernels.frames import Pixels

Corruption: TypeAlias = Callable[[Pixels, np.random.Generator], Pixels]
"""(H, W, 3) uint8 RGB and a generator -> a changed copy of the same shape."""

_GREY: Final = (124, 116, 104)


def with_corrupted_copies(samples: Sequence[Sample], copies: int, seed: int) -> list[Sample]:
    """``samples`` and ``copies`` corrupted ones of each, with the same captions."""
    corrupted = [
        _corrupted(sample, copy, (seed, number, copy))
        for copy in range(copies)
        for number, sample in enumerate(samples)
    ]
    return [*samples, *corrupted]


def corrupt(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """One or two random corruptions of a copy of (H, W, 3) uint8 RGB ``pixels``."""
    for _ in range(rng.integers(1, 3)):
        pixels = CORRUPTIONS[rng.integers(len(CORRUPTIONS))](pixels, rng)
    return pixels


def add_noise(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Gaussian noise, sigma 5 to 35 grey levels."""
    return _clipped(pixels + rng.uniform(5, 35) * rng.standard_normal(pixels.shape))


def blur(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Gaussian blur, sigma up to 1.6 % of the width."""
    return _same(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.003, 0.016) * pixels.shape[1]))


def warp(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A smooth random displacement, up to 6 % of the width (one standard deviation)."""
    height, width = pixels.shape[:2]
    reach, size = rng.uniform(0.006, 0.063) * width, rng.uniform(0.04, 0.19) * width
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    fields = []
    for place in (xs, ys):
        rough = rng.standard_normal((height, width), np.float32)
        smooth = cv2.GaussianBlur(rough, (0, 0), size)
        fields.append(place + smooth * np.float32(reach / (smooth.std() + 1e-6)))
    border = cv2.BORDER_REFLECT_101
    across, down = fields
    return _same(cv2.remap(pixels, across, down, cv2.INTER_LINEAR, borderMode=border))


def blend(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A random pattern, fine or coarse, blended in by 5 % to 30 %."""
    height, width = pixels.shape[:2]
    cells = max(round(height / rng.choice((1, 2, 4, 10, 20))), 2)
    coarse = rng.integers(0, 256, (cells, cells, 3), np.uint8)
    way = cv2.INTER_NEAREST if rng.random() < 0.5 else cv2.INTER_LINEAR
    pattern = cv2.resize(coarse, (width, height), interpolation=way)
    share = rng.uniform(0.05, 0.3)
    return _same(cv2.addWeighted(pixels, 1 - share, pattern, share, 0))


def add_wave(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A plane wave of any direction, 2 to 25 periods, up to 35 grey levels."""
    height, width = pixels.shape[:2]
    angle, periods = rng.uniform(0, np.pi), rng.uniform(2, 25)
    ys, xs = np.mgrid[:height, :width] / width
    phase = periods * (np.cos(angle) * xs + np.sin(angle) * ys) + rng.random()
    return _clipped(pixels + rng.uniform(5, 35) * np.sin(2 * np.pi * phase)[..., None])


def cover(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """One to three boxes of 8 % to 35 % of the sides: a colour, grey or noise."""
    height, width = pixels.shape[:2]
    out = pixels.copy()
    for _ in range(rng.integers(1, 4)):
        side = rng.uniform(0.08, 0.35)
        across, down = max(int(side * width), 1), max(int(side * height), 1)
        left, top = rng.integers(0, width - across + 1), rng.integers(0, height - down + 1)
        fillings = (
            rng.integers(0, 256, 3, np.uint8),
            np.array(_GREY, np.uint8),
            rng.integers(0, 256, (down, across, 3), np.uint8),
        )
        out[top : top + down, left : left + across] = fillings[rng.integers(3)]
    return out


def tint(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Another contrast (0.5 to 1.4), brightness and colour cast."""
    middle = (pixels.astype(np.float32) - 127) * rng.uniform(0.5, 1.4) + 127
    return _clipped(middle + rng.uniform(-40, 40) + rng.uniform(-20, 20, 3))


def shrink(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The picture at 60 % to 95 % of its sides, anywhere on grey."""
    height, width = pixels.shape[:2]
    share = rng.uniform(0.6, 0.95)
    size = max(int(width * share), 1), max(int(height * share), 1)
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    left, top = rng.integers(0, width - size[0] + 1), rng.integers(0, height - size[1] + 1)
    out = np.full_like(pixels, _GREY)
    out[top : top + size[1], left : left + size[0]] = small
    return out


CORRUPTIONS: Final[tuple[Corruption, ...]] = (
    add_noise,
    blur,
    warp,
    blend,
    add_wave,
    cover,
    cover,  # twice as often: patches are what most attacks use
    tint,
    shrink,
)


def _corrupted(sample: Sample, copy: int, seed: tuple[int, ...]) -> Sample:
    def load() -> Pixels:
        return corrupt(sample.load(), np.random.default_rng([*seed, 7]))

    return replace(sample, name=f"{sample.name}#{copy}", load=load)


def _clipped(values: NDArray[np.floating]) -> Pixels:
    clipped: Pixels = np.clip(values, 0, 255).astype(np.uint8)
    return clipped


def _same(image: object) -> Pixels:
    """What OpenCV returns, as the array that it is."""
    return np.asarray(image, np.uint8)
