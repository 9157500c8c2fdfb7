"""The change gate's measure against plain loops."""

import numpy as np
import pytest

from srd_edge.errors import ShapeError, UsageError
from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.similarity import largest_block_difference


def reference(a: Pixels, b: Pixels, block: int) -> float:
    difference = np.abs(a.astype(int) - b.astype(int))
    rows, columns = min(block, a.shape[0]), min(block, a.shape[1])
    return max(
        float(difference[y : y + rows, x : x + columns].mean())
        for y in range(a.shape[0] - rows + 1)
        for x in range(a.shape[1] - columns + 1)
    )


@pytest.mark.parametrize("block", [1, 2, 5, 16, 1000])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 5), (23, 31)])
def test_agrees_with_plain_loops(shape: tuple[int, int], block: int) -> None:
    rng = np.random.default_rng(block)
    a, b = rng.integers(0, 256, (2, *shape, 3), np.uint8)
    expected = pytest.approx(reference(a, b, block), rel=1e-6)
    assert largest_block_difference(a, b, block) == expected
    assert largest_block_difference(b[::-1, ::-1], a[::-1, ::-1], block) == expected
    assert largest_block_difference(a, a, block) == 0.0


@pytest.mark.parametrize("corner", [(0, 0), (9, 9), (60, 57), (116, 116)])
def test_a_sticker_counts_the_same_wherever_it_is(corner: tuple[int, int]) -> None:
    a = np.full((128, 128, 3), 50, np.uint8)
    b = a.copy()
    b[corner[0] : corner[0] + 12, corner[1] : corner[1] + 12] += 80
    assert largest_block_difference(a, b, 16) == pytest.approx(80 * 12 * 12 / 16**2)


def test_the_extremes_of_a_large_picture_are_summed_exactly() -> None:
    black = np.zeros((1100, 1100, 3), np.uint8)
    assert largest_block_difference(black, ~black, 1024) == 255.0


def test_wrong_requests_are_refused() -> None:
    a = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ShapeError):
        largest_block_difference(a, a[:3])
    with pytest.raises(ShapeError):
        largest_block_difference(a[..., 0], a[..., 0])
    for block in (0, 1025):
        with pytest.raises(UsageError):
            largest_block_difference(a, a, block)
