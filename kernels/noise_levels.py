"""Gaussian noise in whole grey levels, by looking up uniform numbers of 16 bits.

A pixel plus noise is rounded to a whole level, so that only the noise's rounded level counts. Each
of the 65536 numbers of 16 bits stands for one: level n for as many as its probability says,
``Phi((n + 0.5) / sigma) - Phi((n - 0.5) / sigma)``. A generator makes four such numbers in less
time than one draw of a normal distribution takes. Beyond 4.3 sigma, which one in 65536 values
would be, there are none.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

_NUMBERS: Final = 1 << 16
_REACH: Final = 4.4
"""In sigmas; what is beyond is less than half a number."""


def noise_levels(
    shape: tuple[int, ...], sigma: float, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Noise for pixels of ``shape``.

    Args:
        shape: (H, W, C), without a zero.
        sigma: in grey levels, above 0, 7000 at most.
        rng: is drawn from, one 64-bit number for four levels.

    Returns:
        of ``shape``, each level drawn by itself.
    """
    size = math.prod(shape)
    drawn = rng.integers(0, 1 << 64, -(-size // 4), np.uint64)
    numbers = drawn.view(np.uint16)[:size].reshape(shape)
    return np.asarray(cv2.LUT(numbers, _levels(sigma)), np.int16)


@lru_cache(maxsize=32)
def _levels(sigma: float) -> NDArray[np.int16]:
    """(65536,), in order: the level of each number."""
    top = math.ceil(_REACH * sigma)
    levels = np.arange(-top, top + 1, dtype=np.int16)
    below = [0.5 * math.erfc(-(level + 0.5) / (sigma * math.sqrt(2.0))) for level in levels[:-1]]
    ends = np.rint(np.array([*below, 1.0]) * _NUMBERS).astype(np.intp)
    return np.repeat(levels, np.diff(ends, prepend=0))
