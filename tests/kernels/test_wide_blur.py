"""The blur by matrix products against OpenCV's, level for level."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge.kernels.frames import Box, Pixels
from srd_edge.kernels.operators import gaussian_blur
from srd_edge.kernels.wide_blur import wide_blur


def opencvs(pixels: Pixels, reach: int, sigma: float) -> NDArray[np.uint8]:
    size = (2 * reach + 1, 2 * reach + 1)
    blurred = cv2.GaussianBlur(pixels, size, sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, np.uint8)


def drawn(kind: str, height: int, width: int) -> Pixels:
    rng = np.random.default_rng(height)
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), np.uint8)
    if kind == "extremes":
        return rng.integers(0, 2, (height, width, 3), np.uint8) * 255
    if kind == "white":
        return np.full((height, width, 3), 255, np.uint8)
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, x + y], axis=2).astype(np.uint8)


@pytest.mark.parametrize("kind", ["noise", "extremes", "white", "ramp"])
@pytest.mark.parametrize(
    ("height", "width", "reach", "sigma"),
    [
        (2, 2, 1, 0.3),
        (5, 9, 3, 1.0),
        (40, 33, 32, 10.9),
        (64, 32, 16, 5.2),
        (65, 129, 24, 8.0),
        (193, 101, 60, 20.0),
        (130, 300, 96, 32.1),
    ],
)
def test_equals_opencvs_to_the_last_level(
    kind: str, height: int, width: int, reach: int, sigma: float
) -> None:
    pixels = drawn(kind, height, width)
    before = pixels.copy()
    expected = opencvs(pixels, reach, sigma)
    whole = wide_blur(pixels, (slice(0, height), slice(0, width)), reach, sigma)
    np.testing.assert_array_equal(whole, expected)
    part = slice(height // 3, height - height // 5), slice(width // 4, width - width // 7)
    np.testing.assert_array_equal(wide_blur(pixels, part, reach, sigma), expected[part])
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("box", [Box(0, 0, 500, 400), Box(100, 20, 300, 390), Box(-9, -9, 60, 60)])
@pytest.mark.parametrize("strength", [1.0, 1.37, 2.0, 20.0])
def test_the_operator_is_one_blur_for_narrow_and_wide_kernels(strength: float, box: Box) -> None:
    pixels = drawn("noise", 400, 500)
    sigma = strength * 500 / 128
    expected = pixels.copy()
    inside = slice(max(box.top, 0), box.bottom), slice(max(box.left, 0), box.right)
    expected[inside] = opencvs(pixels, round(3 * sigma), sigma)[inside]
    gaussian_blur(pixels, box, strength, None, np.random.default_rng(0))
    np.testing.assert_array_equal(pixels, expected)
