"""Pictures as encoders take them that want a row of numbers for each patch, and not the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Patches:
    """Patches of a picture in whole tiles: tile by tile, each row by row, tiles row by row.

    Source: ``_preprocess`` of transformers' Qwen2VLImageProcessor.

    Args:
        side: of a patch, in pixels; a tile is some of them wide and high.
        frames: how often each patch is there, as in a video that stands still.
    """

    side: int
    frames: int

    def cut(self, pixels: NDArray[np.float32], tile: int) -> NDArray[np.float32]:
        """(C, H, W) float32 -> (N, C * frames * side * side), one row a patch, a colour at a time.

        Args:
            pixels: sides are multiples of ``tile``.
            tile: side of a tile, in pixels.
        """
        channels, height, width = pixels.shape
        side, along = self.side, tile // self.side
        cells = pixels.reshape(
            channels, height // tile, along, side, width // tile, along, side
        ).transpose(1, 4, 2, 5, 0, 3, 6)
        rows = cells.reshape(-1, channels, 1, side, side)
        return np.repeat(rows, self.frames, axis=2).reshape(len(rows), -1)

    def grid(self, rows: int, columns: int, tile: int) -> NDArray[np.int64]:
        """(1, 3) int64: frames that differ, and rows and columns of patches in so many tiles."""
        along = tile // self.side
        return np.array([[1, rows * along, columns * along]], np.int64)
