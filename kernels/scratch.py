"""Memory that a thread keeps from one picture to the next.

What a kernel needs between its input and its result is as large for every frame of a video. Fresh
memory of that size is asked of the system and given back each time, and written through page by
page; here it stays. Each thread has its own, so that kernels may run side by side.
"""

from __future__ import annotations

import math
import threading
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

_Number = TypeVar("_Number", bound=np.generic)

_LARGEST_BYTES: Final = 1 << 23
"""What is larger is not kept: one huge picture among many would hold its memory for good."""


class Scratch(threading.local):
    """Arrays by name, one set a thread. Whoever takes a name again takes the memory over."""

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[np.uint8]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type[_Number]) -> NDArray[_Number]:
        """A contiguous array whose contents are whatever was left there.

        Args:
            name: whose memory it is.
            shape: in elements.
            dtype: of an element.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > _LARGEST_BYTES:
            return np.empty(shape, dtype)
        kept = self._kept.get(name)
        if kept is None or kept.size < size:
            kept = self._kept[name] = np.empty(size, np.uint8)
        return kept[:size].view(dtype).reshape(shape)
