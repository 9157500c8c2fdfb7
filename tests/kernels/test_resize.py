"""The resize against Pillow where rounding is hardest, and the memory that it keeps."""

import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from srd_edge.kernels.coefficients import Resample, coefficients
from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.preprocess import Preprocessing, to_canvas, to_tensor
from srd_edge.kernels.resize import resize
from srd_edge.kernels.scratch import Scratch
from srd_edge.kernels.similarity import largest_block_difference

CODES: dict[Resample, int] = {"lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4}
Drawn = Callable[[NDArray[np.intp], NDArray[np.intp]], Any]
PATTERNS: dict[str, Drawn] = {
    "even ramp": lambda x, y: x + 0 * y,
    "odd ramp": lambda x, y: 2 * y + 1 + 0 * x,
    "diagonal ramp": lambda x, y: (x + y) // 2,
    "falling ramp": lambda x, y: 255 - (x * 3 + y) // 4,
    "checkers": lambda x, y: (x + y) % 2 * 255,
    "faint checkers": lambda x, y: (x + y) % 2 + 127,
    "large checkers": lambda x, y: (x // 3 + y // 2) % 2 * 255,
    "stripes": lambda x, y: x % 2 * 255 + 0 * y,
    "bars": lambda x, y: y % 4 // 2 + 0 * x,
    "one pixel": lambda x, y: (x == x.max() // 2) * (y == y.max() // 2) * 255,
    "white": lambda x, y: 255 + 0 * x * y,
}


def drawn(pattern: str, width: int, height: int) -> Pixels:
    y, x = np.mgrid[:height, :width]
    plane = PATTERNS[pattern](x, y)
    return np.stack([plane % 256, (plane + 1) % 256, 255 - plane % 256], axis=2).astype(np.uint8)


def noise(width: int, height: int) -> Pixels:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)


def pillows(pixels: Pixels, size: tuple[int, int], resample: Resample) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize(size, CODES[resample]), np.uint8)


@pytest.mark.parametrize("target", [(64, 36), (80, 45), (96, 96), (97, 31), (640, 360)])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("resample", CODES)
def test_ties_are_rounded_as_pillow_does(
    resample: Resample, pattern: str, target: tuple[int, int]
) -> None:
    pixels = drawn(pattern, 320, 180)
    np.testing.assert_array_equal(
        resize(pixels, *target, resample), pillows(pixels, target, resample)
    )


@pytest.mark.parametrize(
    ("source", "target"),  # (width, height)
    [
        ((1280, 720), (96, 96)),
        ((1280, 720), (384, 384)),
        ((1921, 1083), (223, 117)),
        ((257, 255), (256, 256)),
        ((259, 770), (33, 35)),  # one row more than a block, one strip more than one
        ((900, 2000), (899, 31)),  # the rows first, in several strips
        ((1, 900), (3, 7)),
        ((900, 1), (7, 3)),
        ((5, 4), (5, 4)),
    ],
)
@pytest.mark.parametrize("resample", CODES)
def test_sizes_that_do_not_come_out_even(
    resample: Resample, source: tuple[int, int], target: tuple[int, int]
) -> None:
    pixels = noise(*source)
    np.testing.assert_array_equal(
        resize(pixels, *target, resample), pillows(pixels, target, resample)
    )


@pytest.mark.parametrize("resample", CODES)
def test_more_taps_than_float32_can_sum(resample: Resample) -> None:
    assert coefficients(9000, 2, resample)[0].blocks[0].digits.dtype == np.float64
    assert coefficients(1280, 96, resample)[0].blocks[0].digits.dtype == np.float32
    for pixels in (noise(9000, 3), noise(3, 9000), drawn("even ramp", 9000, 3)):
        for target in ((2, 2), (5, 3), (17, 1)):
            np.testing.assert_array_equal(
                resize(pixels, *target, resample), pillows(pixels, target, resample)
            )


@pytest.mark.parametrize("resample", CODES)
@pytest.mark.parametrize("lengths", [(1280, 96), (720, 384), (96, 500), (333, 97), (2000, 40)])
def test_digits_are_sums_that_float32_holds(resample: Resample, lengths: tuple[int, int]) -> None:
    covered: list[int] = []
    for group in coefficients(*lengths, resample):
        covered += range(group.start, group.stop)
        for block in group.blocks:
            assert 0 <= block.first < block.last <= group.last - group.first
            high, low = np.split(block.digits.astype(np.float64), 2)
            assert (high == np.rint(high)).all()
            assert np.abs(low).max() <= 0.5
            assert (low * 256 == np.rint(low * 256)).all()
            assert 255 * np.abs(high).sum(axis=1).max() < 2**24
            assert 255 * np.abs(low).sum(axis=1).max() < 2**16
            # A coefficient is rounded by 2**-23 at most, and together they are 1.
            together = (high + low).sum(axis=1) * 2.0**-14
            assert np.abs(together - 1).max() <= block.digits.shape[1] * 2.0**-23
    assert covered == list(range(lengths[1]))


def test_pictures_that_may_not_be_written_are_read() -> None:
    pixels = noise(300, 200)
    pixels.flags.writeable = False
    spec = Preprocessing(96, 96, "bilinear", (0.5,) * 3, (0.25,) * 3)
    canvas = to_canvas(pixels, spec)
    assert canvas.flags.writeable
    canvas.flags.writeable = False
    assert to_tensor(canvas, spec).shape == (1, 3, 96, 96)
    assert largest_block_difference(pixels, pixels) == 0


def test_threads_do_not_share_memory() -> None:
    sizes = [(96, 96), (64, 200), (224, 224), (300, 50)] * 8
    pictures = [noise(400 + 10 * number, 300 + number) for number in range(len(sizes))]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda p, s: resize(p, s[0], s[1], "bicubic"), pictures, sizes))
    for pixels, size, resized in zip(pictures, sizes, made, strict=True):
        np.testing.assert_array_equal(resized, pillows(pixels, size, "bicubic"))


def test_a_result_is_not_overwritten_by_the_next() -> None:
    first = resize(noise(300, 200), 96, 64, "bilinear")
    kept = first.copy()
    resize(noise(301, 200), 96, 64, "bilinear")
    np.testing.assert_array_equal(first, kept)


def test_nothing_of_a_frames_size_is_allocated_for_a_frame() -> None:
    frame = noise(1280, 720)
    other = frame.copy()
    spec = Preprocessing(96, 96, "bilinear", (0.5,) * 3, (0.25,) * 3)
    tensor = np.empty((1, 3, 96, 96), np.float32)

    def one() -> None:
        to_tensor(to_canvas(frame, spec), spec, out=tensor)
        largest_block_difference(frame, other)

    one()
    tracemalloc.start()
    try:
        one()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < frame.nbytes / 20


def test_scratch_is_kept_by_name_and_type_and_grows() -> None:
    scratch = Scratch()
    first = scratch.array("a", (3, 5), np.float32)
    first[...] = 7
    assert np.shares_memory(first, scratch.array("a", (15,), np.float32))
    assert not np.shares_memory(first, scratch.array("b", (15,), np.float32))
    larger = scratch.array("a", (40, 5), np.uint16)
    assert (larger.shape, larger.dtype) == ((40, 5), np.dtype(np.uint16))
    assert not np.shares_memory(first, larger)
    assert np.shares_memory(larger, scratch.array("a", (2,), np.uint8))
    huge = (1 << 24,)
    assert not np.shares_memory(
        scratch.array("a", huge, np.uint8), scratch.array("a", huge, np.uint8)
    )
