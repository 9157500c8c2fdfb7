"""Canvases of any resolution: the whole picture, and the tiles of it that are worth looking at."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.coefficients import Resample
from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.resize import resize
from srd_edge.kernels.tiling import Layout, tiles


@dataclass(frozen=True, slots=True)
class AnyResolution:
    """The whole, then the tiles of the picture scaled and padded to the best of some sizes.

    The canvas is the picture itself. Of the tiles' features, those of padding are left out, what is
    too many is scaled down, and a learned feature ends each line: ``gathered``.

    Source: transformers' LlavaOnevisionImageProcessor and ``pack_image_features``.

    Args:
        resolutions: (height, width) in pixels, multiples of a tile.
        most_tiles: whose number of features is not to be exceeded by more than a fifth.
        side: features a tile has along one side.
    """

    resolutions: tuple[tuple[int, int], ...]
    most_tiles: int
    side: int

    def sizes(self, width: int, height: int, tile: int) -> list[tuple[int, int]]:
        return []

    def layout(self, width: int, height: int, tile: int) -> Layout:
        best_height, best_width = self._best(width, height)
        rows, columns = best_height // tile, best_width // tile
        return Layout(height, width, rows, columns, rows * columns + 1)

    def cut(self, canvas: Pixels, tile: int, resample: Resample) -> Pixels:
        height, width = canvas.shape[:2]
        room_height, room_width = self._best(width, height)
        if room_width / width < room_height / height:
            size = room_width, min(math.ceil(height * (room_width / width)), room_height)
        else:
            size = min(math.ceil(width * (room_height / height)), room_width), room_height
        room = np.zeros((room_height, room_width, 3), np.uint8)
        left, top = (room_width - size[0]) // 2, (room_height - size[1]) // 2
        room[top : top + size[1], left : left + size[0]] = resize(canvas, *size, resample)
        return np.concatenate([resize(canvas, tile, tile, resample)[None], tiles(room, tile)])

    def gathered(self, layout: Layout) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Which features of all the encoder saw make the picture: (P, 4) indices and weights.

        An index counts through the features of the whole, then of each tile, row by row, and then
        the one that ends a line.
        """
        side, area = self.side, self.side**2
        top, left, height, width = self._within(layout)
        rows, row_weights = _taps(height, self._scale(height, width))
        columns, column_weights = _taps(width, self._scale(height, width))
        y, x = (top + rows)[:, None, :, None], (left + columns)[None, :, None, :]
        tile = y // side * layout.columns + x // side
        index = area + tile * area + y % side * side + x % side
        weight = row_weights[:, None, :, None] * column_weights[None, :, None, :]
        lines = np.full((len(rows), 1, 4), layout.seen * area)
        shape = len(rows), len(columns), 4
        index = np.concatenate([index.reshape(shape), lines], axis=1)
        ends = np.tile(np.array([1.0, 0, 0, 0]), (len(rows), 1, 1))
        weight = np.concatenate([weight.reshape(shape), ends], axis=1)
        whole = np.repeat(np.arange(area)[:, None], 4, axis=1)
        once = np.tile(np.array([1.0, 0, 0, 0]), (area, 1))
        return (
            np.concatenate([whole, index.reshape(-1, 4)]).astype(np.int64),
            np.concatenate([once, weight.reshape(-1, 4)]).astype(np.float32),
        )

    def to_json(self) -> dict[str, Any]:
        lists = {"resolutions": [list(size) for size in self.resolutions]}
        return {"kind": "any-resolution"} | asdict(self) | lists

    def bounded(self, most_pixels: int, tile: int) -> AnyResolution:
        within = tuple(size for size in self.resolutions if math.prod(size) <= most_pixels)
        return replace(self, resolutions=within or (min(self.resolutions, key=math.prod),))

    def _best(self, width: int, height: int) -> tuple[int, int]:
        """The (height, width) that keeps the most of the picture and wastes the least."""

        def worth(size: tuple[int, int]) -> tuple[int, int]:
            scale = min(size[1] / width, size[0] / height)
            kept = min(int(width * scale) * int(height * scale), width * height)
            return kept, kept - size[0] * size[1]

        return max(self.resolutions, key=worth)

    def _within(self, layout: Layout) -> tuple[int, int, int, int]:
        """Top, left, height, width of the picture among the tiles' features."""
        height, width = layout.rows * self.side, layout.columns * self.side
        if layout.width / layout.height > width / height:
            top = (height - int(round(layout.height * (width / layout.width), 7))) // 2
            return top, 0, height - 2 * top, width
        left = (width - int(round(layout.width * (height / layout.height), 7))) // 2
        return 0, left, height, width - 2 * left

    def _scale(self, height: int, width: int) -> float:
        """How much smaller so many features are made."""
        ratio = math.sqrt(height * width / (self.most_tiles * self.side**2))
        return ratio if ratio > 1.1 else 1.0


def _taps(length: int, scale: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Bilinear interpolation of ``length`` to ``length // scale``: (N, 2) indices and weights."""
    if scale == 1.0:
        here = np.arange(length)[:, None]
        return np.repeat(here, 2, axis=1), np.tile(np.array([1.0, 0.0]), (length, 1))
    count = int(length // scale)
    at = np.maximum((np.arange(count) + 0.5) * (length / count) - 0.5, 0.0)
    low = at.astype(np.int64)
    share = at - low
    return np.stack([low, np.minimum(low + 1, length - 1)], 1), np.stack([1 - share, share], 1)
