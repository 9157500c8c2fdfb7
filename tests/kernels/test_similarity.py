"""The change gate's measure against plain loops."""

import numpy as np
import pytest

from srd_edge.errors import ShapeError, UsageError
from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.similarity import largest_block_difference


def starts(length: int, block: int) -> list[int]:
    return sorted({*range(0, length - block + 1, block), length - block})


def reference(a: Pixels, b: Pixels, block: int) -> float:
    difference = np.abs(a.astype(int) - b.astype(int))
    rows, columns = min(block, a.shape[0]), min(block, a.shape[1])
    return max(
        float(difference[y : y + rows, x : x + columns].mean(axis=(0, 1)).max())
        for y in starts(a.shape[0], rows)
        for x in starts(a.shape[1], columns)
    )


@pytest.mark.parametrize("block", [1, 2, 5, 8, 16, 1000])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 5), (16, 16), (23, 31), (177, 20)])
def test_agrees_with_plain_loops(shape: tuple[int, int], block: int) -> None:
    rng = np.random.default_rng(block)
    a, b = rng.integers(0, 256, (2, *shape, 3), np.uint8)
    assert largest_block_difference(a, b, block) == pytest.approx(reference(a, b, block), abs=0.51)
    assert largest_block_difference(a, a, block) == 0.0


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_sticker_is_seen_wherever_it_is_and_whatever_its_colour(channel: int) -> None:
    a = np.full((90, 130, 3), 50, np.uint8)
    seen = []
    for top in range(0, 90 - 12, 5):
        for left in range(0, 130 - 12, 5):
            b = a.copy()
            b[top : top + 12, left : left + 12, channel] += 80
            seen.append(largest_block_difference(a, b))
    assert min(seen) >= 80 * 9 / 16
    assert max(seen) == 80


def test_noise_all_over_the_picture_is_less_than_a_sticker() -> None:
    rng = np.random.default_rng(0)
    a = np.full((720, 1280, 3), 128, np.uint8)
    noisy = np.clip(a + rng.normal(0, 4, a.shape), 0, 255).astype(np.uint8)
    assert largest_block_difference(a, noisy) < 6
    noisy[300:312, 500:512] = 60
    assert largest_block_difference(a, noisy) > 36


def test_wrong_requests_are_refused() -> None:
    a = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ShapeError):
        largest_block_difference(a, a[:3])
    with pytest.raises(ShapeError):
        largest_block_difference(a[..., 0], a[..., 0])
    with pytest.raises(UsageError):
        largest_block_difference(a, a, 0)


@pytest.mark.parametrize("size", [(64, 48), (100, 75), (8, 8), (13, 5), (1, 1)])
def test_what_is_ignored_hides_nothing_that_is_above_it(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(size))
    width, height = size
    for spread in (2, 6, 9, 12, 40):
        a = rng.integers(0, 256, (height, width, 3), np.uint8)
        noise = rng.integers(0, spread + 1, a.shape)
        b = np.where(a >= 128, a - noise, a + noise).astype(np.uint8)
        if spread == 40:
            b = a.copy()
            b[: min(8, height), : min(8, width)] ^= 8  # a block that is off by 8, no more, no less
        exact = largest_block_difference(a, b)
        for ignored in (0.0, exact - 1, exact - 0.5, exact, exact + 0.5, exact + 1, exact + 2):
            found = largest_block_difference(a, b, ignored=ignored)
            assert found == exact if exact > ignored else found <= ignored
