"""Every operator against a slow, obvious reference, on whole frames, boxes, views and crumbs."""

import colorsys
import io
from collections.abc import Callable
from itertools import product
from statistics import NormalDist
from typing import Any, TypeAlias

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Box, Pixels
from srd_edge.kernels.operators import OPERATORS, Colour

Array: TypeAlias = NDArray[Any]
Reference: TypeAlias = Callable[[Array, Box, float, Colour | None, np.random.Generator], Array]

RED = (250, 20, 10)
GREY = (124, 116, 104)


def each_pixel(function: Callable[[list[int], float, Colour], Any]) -> Reference:
    """A reference that maps every pixel of the box by itself."""

    def reference(
        picture: Array, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
    ) -> Array:
        expected = picture.astype(np.float64)
        for y, x in product(range(box.top, box.bottom), range(box.left, box.right)):
            expected[y, x] = function([int(v) for v in picture[y, x]], strength, colour or GREY)
        return expected

    return reference


def mid_step(value: int, strength: float) -> int:
    step = 256 >> int(strength)
    return value // step * step + step // 2


def luma_blend(rgb: list[int], strength: float, colour: Colour) -> list[float]:
    luma = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]
    return [v * (1 - strength) + luma * strength for v in rgb]


def turned_hue(rgb: list[int], strength: float, colour: Colour) -> list[float]:
    hue, saturation, value = colorsys.rgb_to_hsv(*(v / 255 for v in rgb))
    return [v * 255 for v in colorsys.hsv_to_rgb((hue + strength / 360) % 1, saturation, value)]


def noise(
    picture: Array, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> Array:
    """Four numbers of 16 bits to a draw; each stands for a quantile of the normal distribution."""
    expected = picture.astype(np.float64)
    region = expected[box.top : box.bottom, box.left : box.right]
    if strength and region.size:
        draws = rng.integers(0, 1 << 64, (region.size + 3) // 4, np.uint64)
        numbers = [draw >> shift & 0xFFFF for draw in draws.tolist() for shift in (0, 16, 32, 48)]
        quantiles = [NormalDist().inv_cdf((k + 0.5) / 65536) for k in numbers[: region.size]]
        added = strength * np.reshape(quantiles, region.shape)
        region[...] = np.clip(region + added, 0, 255)
    return expected


def gaussian_blur(
    picture: Array, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> Array:
    sigma = strength * picture.shape[1] / 128
    reach = round(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-9)) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(picture.astype(np.float64), ((reach, reach), (reach, reach), (0, 0)), "reflect")
    return windows(picture, box, padded, reach, lambda w: np.einsum("y,yxc,x", kernel, w, kernel))


def median(
    picture: Array, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> Array:
    reach = max(round((strength * picture.shape[1] / 128 - 1) / 2), 0)
    padded = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)), "edge")
    return windows(picture, box, padded, reach, lambda w: np.median(w, axis=(0, 1)))


def windows(
    picture: Array, box: Box, padded: Array, reach: int, function: Callable[[Array], Any]
) -> Array:
    expected = picture.astype(np.float64)
    for y, x in product(range(box.top, box.bottom), range(box.left, box.right)):
        expected[y, x] = function(padded[y : y + 2 * reach + 1, x : x + 2 * reach + 1])
    return expected


def pixelate(
    picture: Array, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> Array:
    side = max(round(strength * picture.shape[1] / 128), 1)
    expected = picture.astype(np.float64)
    for y, x in product(range(box.top, box.bottom, side), range(box.left, box.right, side)):
        block = expected[y : min(y + side, box.bottom), x : min(x + side, box.right)]
        block[...] = block.mean(axis=(0, 1))
    return expected


def inpaint(
    picture: Array, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> Array:
    expected = picture.astype(np.float64)
    region = expected[box.top : box.bottom, box.left : box.right]
    if region.shape == expected.shape:
        expected[...] = region.mean(axis=(0, 1))
    elif region.size:
        mask = np.zeros(picture.shape[:2], np.uint8)
        mask[box.top : box.bottom, box.left : box.right] = 1
        filled = cv2.inpaint(np.ascontiguousarray(picture), mask, strength, cv2.INPAINT_TELEA)
        region[...] = filled[box.top : box.bottom, box.left : box.right]
    return expected


def area_weights(source: int, target: int) -> Array:
    """(target, source): how much of each source pixel is in each target pixel."""
    weights = np.zeros((target, source))
    for i, j in product(range(target), range(source)):
        overlap = min((i + 1) * source / target, j + 1) - max(i * source / target, j)
        weights[i, j] = max(overlap, 0) * target / source
    return weights


def shrink_and_pad(
    picture: Array, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> Array:
    expected = picture.astype(np.float64)
    if box.width and box.height:
        region = expected[box.top : box.bottom, box.left : box.right]
        height, width = max(round(strength * box.height), 1), max(round(strength * box.width), 1)
        vertical, across = area_weights(box.height, height), area_weights(box.width, width)
        small = np.einsum("iy,yxc,jx->ijc", vertical, region, across)
        top, left = (box.height - height) // 2, (box.width - width) // 2
        region[...] = colour or GREY
        region[top : top + height, left : left + width] = small
    return expected


def jpeg(
    picture: Array, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> Array:
    expected = picture.astype(np.float64)
    if box.width and box.height:
        region = picture[box.top : box.bottom, box.left : box.right]
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(region)).save(
            file, "JPEG", quality=int(strength), subsampling="4:2:0"
        )
        expected[box.top : box.bottom, box.left : box.right] = np.asarray(Image.open(file))
    return expected


# Operator: reference, strengths, tolerance in grey levels. 0.5 is correct rounding.
CASES: dict[str, tuple[Reference, tuple[float, ...], float]] = {
    "occlude": (each_pixel(lambda _rgb, _strength, colour: colour), (1.0,), 0.0),
    "colour_mask": (
        each_pixel(lambda rgb, s, colour: [rgb[i] * (1 - s) + colour[i] * s for i in range(3)]),
        (0.0, 0.4, 0.5, 1.0),
        0.5001,
    ),
    "gaussian_blur": (gaussian_blur, (0.0, 5.0, 16.0), 1.0),
    "median": (median, (1.0, 13.0, 31.0), 0.0),
    "pixelate": (pixelate, (1.0, 20.0, 128.0), 0.5001),
    "inpaint": (inpaint, (1.0, 3.0), 1.0),
    "noise": (noise, (0.0, 60.0), 0.5001),
    "shrink_and_pad": (shrink_and_pad, (0.01, 0.7, 1.0), 1.0),
    "jpeg": (jpeg, (1.0, 20.0, 95.0), 3.0),
    "bit_depth": (
        each_pixel(lambda rgb, s, _colour: [mid_step(v, s) for v in rgb]),
        (1.0, 3.0, 8.0),
        0.0,
    ),
    "greyscale": (each_pixel(luma_blend), (0.0, 0.5, 1.0), 1.0),
    "hue_shift": (each_pixel(turned_hue), (-360.0, 0.0, 90.0, 305.0), 0.5001),
}
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
