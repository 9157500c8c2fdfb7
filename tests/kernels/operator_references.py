"""Slow, obvious references of the operators, and how near to its own each one has to come."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Callable
from itertools import product
from statistics import NormalDist
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srd_edge.kernels.frames import Box
from srd_edge.kernels.operators import Colour

Array: TypeAlias = NDArray[Any]
Reference: TypeAlias = Callable[[Array, Box, float, Colour | None, np.random.Generator], Array]

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
