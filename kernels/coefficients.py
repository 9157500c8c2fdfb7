"""Pillow's coefficients of a resize, as digits that products in float32 hold exactly.

Pillow rounds its coefficients to 22 binary places and adds products of integers. Here each is split
in two, ``high + low`` in units of 2**-14: ``high`` is whole, ``low`` has 8 binary places and is at
most a half. Products of either with 8-bit pixels, and all sums of them, fit into the 24 bits of a
float32, so that a matrix product is exact in whatever order it adds. Where that does not hold (more
than about 500 taps) the digits are float64.

Source: Pillow, src/libImaging/Resample.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Resample: TypeAlias = Literal["nearest", "bilinear", "bicubic", "box", "lanczos"]

UNIT: Final = 2.0**-14
"""What digits are counted in."""
_LOW_STEP: Final = 2.0**-8
_EXACT: Final = 2.0**24
"""float32 holds every whole number up to it."""

_BLOCK: Final = 4
"""Rows of output per matrix product. Larger ones multiply more zeros, smaller ones keep the matrix
product short of work."""
_GROUP: Final = 32
"""Rows of output that are rounded together, and whose rows of input become floats together. 4 and
32 were the fastest of 4 and 8, and of 8 to 64, from 1280 x 720 to 96, 224 and 384."""


@dataclass(frozen=True, slots=True)
class Block:
    """``digits`` (2 * rows of output, rows of input), the high ones above the low ones, make so
    many rows of output out of input[first:last]."""

    first: int
    last: int
    digits: NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Group:
    """Blocks of ``height`` rows each that make output[start:stop] out of input[first:last]; they
    count their input from there."""

    start: int
    stop: int
    first: int
    last: int
    height: int
    blocks: tuple[Block, ...]


@lru_cache(maxsize=32)
def coefficients(source: int, target: int, resample: Resample) -> tuple[Group, ...]:
    """Pillow's ``precompute_coeffs`` and ``normalize_coeffs_8bpc``, in groups of output rows.

    Args:
        source, target: lengths in pixels.
        resample: any filter but ``nearest``.
    """
    kernel, support = _FILTERS[resample]
    scale = source / target
    stretch = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    first = np.maximum((centres - support * stretch + 0.5).astype(np.intp), 0)
    last = np.minimum((centres + support * stretch + 0.5).astype(np.intp), source)
    digits = {}
    for top, height in _blocks(target):
        block = slice(top, top + height)
        taps = np.arange(first[top], last[block.stop - 1])
        weights = kernel((taps - centres[block, None] + 0.5) * (1.0 / stretch))
        weights[(taps < first[block, None]) | (taps >= last[block, None])] = 0.0
        weights /= np.cumsum(weights, axis=1)[:, -1:]  # added one by one, as in Pillow
        digits[top] = _digits(weights)
    dtype = np.float32 if all(map(_fit_float32, digits.values())) else np.float64
    groups = []
    for start, stop, height in _grouped(target):
        begin = int(first[start])
        blocks = tuple(
            Block(
                first=int(first[top]) - begin,
                last=int(last[top + height - 1]) - begin,
                digits=digits[top].astype(dtype),
            )
            for top in range(start, stop, height)
        )
        groups.append(Group(start, stop, begin, int(last[stop - 1]), height, blocks))
    return tuple(groups)


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    """Top and height of each."""
    for start, stop, height in _grouped(length):
        yield from ((top, height) for top in range(start, stop, height))


def _grouped(length: int) -> Iterator[tuple[int, int, int]]:
    """Start, stop and height of a block; what does not come out even is a group of its own."""
    even = length - length % _BLOCK
    for start in range(0, even, _GROUP):
        yield start, min(start + _GROUP, even), _BLOCK
    if even < length:
        yield even, length, length - even


def _digits(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    fixed = np.trunc(weights * 2.0**22 + np.copysign(0.5, weights)) * (2.0**-22 / UNIT)
    high = np.rint(fixed)
    return np.concatenate([high, fixed - high])


def _fit_float32(digits: NDArray[np.float64]) -> bool:
    """Whether sums of products with 0..255 are exact, each digit's and, whole, both together."""
    high, low = (255 * part.sum(axis=1).max() for part in np.split(np.abs(digits), 2))
    return bool(high + low < _EXACT and low / _LOW_STEP < _EXACT)


def _box(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _bilinear(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    a, x = -0.5, np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where((x >= -3.0) & (x < 3.0), np.sinc(x) * np.sinc(x / 3.0), 0.0)


_Kernel: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
_FILTERS: Final[Mapping[str, tuple[_Kernel, float]]] = {
    "box": (_box, 0.5),
    "bilinear": (_bilinear, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
"""Each filter with its support, in source pixels when enlarging."""
