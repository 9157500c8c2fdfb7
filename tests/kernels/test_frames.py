"""Odd pictures become uint8 RGB, or are refused by name."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge.errors import ShapeError
from srd_edge.kernels.frames import Box, Frame, rgb_from_cv2

Array: TypeAlias = NDArray[Any]
RNG = np.random.default_rng(2)
BGR = RNG.integers(0, 256, (5, 7, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (BGR, BGR[..., ::-1]),
        (BGR[::2, ::-1], BGR[::2, ::-1, ::-1]),
        (BGR[..., 0], BGR[..., [0, 0, 0]]),
        (BGR[..., :1], BGR[..., [0, 0, 0]]),
        (BGR.astype(np.uint16) * 257, BGR[..., ::-1]),
        ((BGR / 255).astype(np.float32), BGR[..., ::-1]),
        (BGR / 255, BGR[..., ::-1]),
        (BGR[..., 1] / 255, BGR[..., [1, 1, 1]]),
        (np.array([[-0.5, 1.7]]), np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)),
        (np.array([[[1, 2, 3]]], np.uint8), np.array([[[3, 2, 1]]], np.uint8)),
        (np.array([[9]], np.uint8), np.array([[[9, 9, 9]]], np.uint8)),
    ],
)
def test_becomes_rgb(image: Array, expected: Array) -> None:
    rgb = rgb_from_cv2(image)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    np.testing.assert_array_equal(rgb, expected)


@pytest.mark.parametrize(
    "deepen",
    [lambda v: v, lambda v: v.astype(np.uint16) * 257, lambda v: v / 255],
    ids=["8 bits", "16 bits", "float"],
)
def test_alpha_is_laid_over_white(deepen: Callable[[Array], Array]) -> None:
    """Within half a level of the exact composite."""
    bgra = np.dstack([BGR, RNG.integers(0, 256, (5, 7), np.uint8)])
    bgra[0, 0, 3], bgra[0, 1, 3] = 0, 255
    alpha = bgra[..., 3:] / 255
    exact = (bgra[..., :3] * alpha + 255 * (1 - alpha))[..., ::-1]
    rgb = rgb_from_cv2(deepen(bgra))
    assert np.abs(rgb - exact).max() <= 0.5
    assert rgb[0, 0].tolist() == [255, 255, 255]
    assert (rgb[0, 1] == bgra[0, 1, 2::-1]).all()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros(4, np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.int32),
        np.zeros((4, 4, 3), bool),
    ],
    ids=lambda image: f"{image.shape}-{image.dtype}",
)
def test_other_arrays_are_refused(image: Array) -> None:
    with pytest.raises(ShapeError, match=r"expected .* found .*: "):
        rgb_from_cv2(image)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        None,
    ],
)
def test_a_frame_is_checked_when_made(pixels: Any) -> None:
    with pytest.raises(ShapeError):
        Frame(pixels)


def test_boxes() -> None:
    assert Box(-3, 2, 50, 9).clipped(20, 5) == Box(0, 2, 20, 5)
    outside = Box(30, 30, 40, 40).clipped(20, 20)
    assert (outside.width, outside.height) == (0, 0)
    assert Box(1, 2, 3, 4).scaled(2.0, 0.5) == Box(2, 1, 6, 2)
