"""Every operator against a slow, obvious reference, on whole frames, boxes, views and crumbs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Box, Pixels
from srd_edge.kernels.operators import OPERATORS, Colour
from tests.kernels.operator_references import CASES, Array

RED = (250, 20, 10)
BOXES = {
    "whole": Box(0, 0, 32, 24),
    "middle": Box(9, 5, 22, 18),
    "corner": Box(20, 14, 32, 24),
    "overhanging": Box(-5, 10, 8, 40),
    "empty": Box(7, 7, 7, 12),
    "elsewhere": Box(40, 40, 50, 50),
}
VIEWS: dict[str, Callable[[Array], Array]] = {
    "contiguous": lambda base: base[:24, :32].copy(),
    "crop": lambda base: base[3:27, 5:37],
    "turned": lambda base: base[:32, :24].transpose(1, 0, 2),
    "flipped": lambda base: base[3:27, 36:4:-1, ::-1],
    "strided": lambda base: base[::2, ::2][:24, :32],
}


def picture(height: int, width: int, seed: int = 7) -> Pixels:
    """A gradient, with noise on one half and a sticker, so that every operator has work to do."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    pixels = np.stack([255 * x, 255 * y, 255 * (1 - x)], axis=2)
    pixels[:, : width // 2] += rng.normal(0, 40, (height, width // 2, 3))
    pixels[height // 3 : height // 2, width // 3 : width // 2] = (255, 0, 255)
    clipped: Pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return clipped


def check(
    name: str, pixels: Pixels, box: Box, strength: float, colour: Colour | None = None
) -> None:
    reference, _, tolerance = CASES[name]
    before = pixels.copy()
    clipped = box.clipped(pixels.shape[1], pixels.shape[0])
    expected = reference(before, clipped, strength, colour, np.random.default_rng(3))
    OPERATORS[name](pixels, box, strength, colour, np.random.default_rng(3))
    if name == "inpaint" and min(pixels.shape[:2]) < 4:
        tolerance = 4.0  # Telea extrapolates gradients; on a strip they hang on the crop's ends.
    assert np.abs(pixels - expected).max() <= tolerance
    outside = np.ones(pixels.shape[:2], bool)
    outside[clipped.top : clipped.bottom, clipped.left : clipped.right] = False
    assert (pixels[outside] == before[outside]).all()


def test_cases_cover_the_registry() -> None:
    assert set(CASES) == set(OPERATORS)


@pytest.mark.parametrize("place", BOXES)
@pytest.mark.parametrize("name", CASES)
def test_operator_agrees_with_reference_and_stays_in_its_box(name: str, place: str) -> None:
    for strength in CASES[name][1]:
        check(name, picture(24, 32), BOXES[place], strength)
        check(name, picture(24, 32), BOXES[place], strength, RED)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", CASES)
def test_views_are_changed_in_place(name: str, view: str) -> None:
    base = picture(64, 64)
    pixels = VIEWS[view](base)
    mine = np.zeros(base.shape, bool)
    VIEWS[view](mine)[...] = True
    before = base.copy()
    check(name, pixels, BOXES["middle"], CASES[name][1][-1])
    assert (base[~mine] == before[~mine]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 5)])
@pytest.mark.parametrize("name", CASES)
def test_crumbs(name: str, shape: tuple[int, int]) -> None:
    for strength in CASES[name][1]:
        check(name, picture(*shape), Box(0, 0, 99, 99), strength)
        check(name, picture(*shape), Box(0, 0, 1, 1), strength)


@pytest.mark.parametrize("name", CASES)
def test_only_noise_draws_and_the_seed_decides(name: str) -> None:
    results = []
    for seed in (1, 1, 2):
        pixels, rng = picture(24, 32), np.random.default_rng(seed)
        OPERATORS[name](pixels, BOXES["middle"], CASES[name][1][-1], None, rng)
        untouched = rng.bit_generator.state == np.random.default_rng(seed).bit_generator.state
        assert untouched == (name != "noise")
        results.append(pixels)
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all() == (name != "noise")


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("colour_mask", 0, 1),
        ("gaussian_blur", 0, 32),
        ("median", 1, 31),
        ("pixelate", 1, 128),
        ("inpaint", 1, 100),
        ("noise", 0, 255),
        ("shrink_and_pad", 0.01, 1),
        ("jpeg", 1, 100),
        ("bit_depth", 1, 8),
        ("greyscale", 0, 1),
        ("hue_shift", -360, 360),
    ],
)
def test_strength_out_of_range_is_refused(name: str, low: float, high: float) -> None:
    rng = np.random.default_rng()
    for strength in (low, high):
        OPERATORS[name](picture(4, 4), Box(0, 0, 4, 4), strength, None, rng)
    for strength in (low - 0.001, high + 0.001, float("nan"), float("inf")):
        pixels = picture(4, 4)
        with pytest.raises(UsageError, match=f"for {name}, found"):
            OPERATORS[name](pixels, Box(0, 0, 4, 4), strength, None, rng)
        assert (pixels == picture(4, 4)).all()


@pytest.mark.parametrize("colour", [(256, 0, 0), (-1, 0, 0), (1, 2)])
@pytest.mark.parametrize("name", ["occlude", "colour_mask", "shrink_and_pad"])
def test_wrong_colour_is_refused(name: str, colour: Any) -> None:
    with pytest.raises(UsageError, match="three channels"):
        OPERATORS[name](picture(4, 4), Box(0, 0, 4, 4), 0.5, colour, np.random.default_rng())


def test_inpainting_leaves_nothing_of_the_sticker() -> None:
    pixels = np.full((40, 60, 3), (10, 200, 90), np.uint8)
    pixels[12:24, 20:35] = (255, 0, 0)
    OPERATORS["inpaint"](pixels, Box(20, 12, 35, 24), 3.0, None, np.random.default_rng())
    # Telea's extrapolation wavers by a few levels even over one colour; the red was 245 away.
    assert np.abs(pixels - np.array((10.0, 200.0, 90.0))).max() <= 4


@pytest.mark.parametrize("bits", range(1, 9))
def test_bit_depth_keeps_the_mean(bits: int) -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    OPERATORS["bit_depth"](pixels, Box(0, 0, 16, 16), bits, None, np.random.default_rng())
    assert len(np.unique(pixels)) == 2**bits
    assert pixels.mean() == pytest.approx(127.5, abs=0.5)


@pytest.mark.parametrize(("name", "strength"), [("gaussian_blur", 3.0), ("pixelate", 8.0)])
def test_lengths_scale_with_the_frame(name: str, strength: float) -> None:
    """Perturbing and enlarging may change places, but for 4 levels."""
    y, x = np.mgrid[:96, :128]
    small = np.stack([127 + 120 * np.sin(x / 8), 127 + 120 * np.cos(y / 9), x + y], axis=2)
    small = small.astype(np.uint8)
    large = small.repeat(2, axis=0).repeat(2, axis=1)
    OPERATORS[name](small, Box(0, 0, 128, 96), strength, None, np.random.default_rng())
    OPERATORS[name](large, Box(0, 0, 256, 192), strength, None, np.random.default_rng())
    difference = np.abs(large.reshape(96, 2, 128, 2, 3).mean(axis=(1, 3)) - small)
    assert difference[8:-8, 8:-8].max() <= 4
