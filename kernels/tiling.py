"""Canvases that follow the picture's size, and the tiles that an encoder sees of them.

A captioner of one fixed size needs none of this. Those that look at pictures of any size have one
of three ways, each a record here: ``Multiples`` stretches the picture to a multiple of a cell,
``Split`` cuts it into tiles and adds the whole, ``AnyResolution`` pads it into tiles, adds the
whole, and leaves out what the padding gave. Each does, bit for bit, what the image processors that
it names do.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Protocol, Self

import numpy as np

from srd_edge.kernels.coefficients import Resample
from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.patches import Patches
from srd_edge.kernels.resize import resize

_LONGEST_SIDE_PX: Final = 4096
"""Of a picture before it is split, as Idefics3 has it."""
_MOST_ELONGATED: Final = 200
"""Longer side over shorter, as Qwen2-VL has it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one canvas is seen.

    Args:
        height, width: of the canvas, in pixels.
        rows, columns: how many tiles it measures; 0 where it is seen whole and no other way.
        seen: how many pictures the encoder is given for it.
    """

    height: int
    width: int
    rows: int = 0
    columns: int = 0
    seen: int = 1


class Tiling(Protocol):
    """How canvases follow the picture; ``tile`` is the side of a square tile in pixels."""

    def sizes(self, width: int, height: int, tile: int) -> list[tuple[int, int]]:
        """(width, height) that a picture of that size is resized to, one after the other."""
        ...

    def layout(self, width: int, height: int, tile: int) -> Layout:
        """How a canvas of that size is seen."""
        ...

    def cut(self, canvas: Pixels, tile: int, resample: Resample) -> Pixels:
        """What the encoder is given of a canvas: (seen, h, w, 3) uint8 RGB."""
        ...

    def bounded(self, most_pixels: int, tile: int) -> Self:
        """The same for canvases of at most so many pixels, where a tile leaves a choice."""
        ...

    def to_json(self) -> dict[str, Any]:
        """For the manifest; ``tiling_records.read_tiling`` reads it back."""
        ...


@dataclass(frozen=True, slots=True)
class Multiples:
    """As many pixels as the picture, within bounds, and sides that are multiples of a tile.

    Source: ``smart_resize`` of transformers' Qwen2VLImageProcessor.

    Args:
        fewest_pixels, most_pixels: of a canvas.
        patches: what the encoder is given in place of the canvas, if it wants that.
    """

    fewest_pixels: int
    most_pixels: int
    patches: Patches | None = None

    def sizes(self, width: int, height: int, tile: int) -> list[tuple[int, int]]:
        # transformers refuses what is thinner; a video must not end for it.
        thinnest = math.ceil(max(height, width) / _MOST_ELONGATED)
        height, width = max(height, thinnest), max(width, thinnest)
        rows, columns = round(height / tile), round(width / tile)
        pixels = rows * columns * tile**2
        if pixels > self.most_pixels:
            shrink = math.sqrt(height * width / self.most_pixels)
            rows, columns = (max(1, int(side / shrink / tile)) for side in (height, width))
        elif pixels < self.fewest_pixels:
            grow = math.sqrt(self.fewest_pixels / (height * width))
            rows, columns = (math.ceil(side * grow / tile) for side in (height, width))
        return [(columns * tile, rows * tile)]

    def layout(self, width: int, height: int, tile: int) -> Layout:
        return Layout(height, width, height // tile, width // tile)

    def cut(self, canvas: Pixels, tile: int, resample: Resample) -> Pixels:
        return canvas[None]

    def bounded(self, most_pixels: int, tile: int) -> Multiples:
        most = min(self.most_pixels, max(most_pixels, tile**2))
        return replace(self, fewest_pixels=min(self.fewest_pixels, most), most_pixels=most)

    def to_json(self) -> dict[str, Any]:
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        return {"kind": "multiples"} | fields


@dataclass(frozen=True, slots=True)
class Split:
    """Tiles of a canvas that is stretched to whole tiles, row by row, and then the whole.

    Source: transformers' Idefics3ImageProcessor and SmolVLMImageProcessor.

    Args:
        longest_edge: that the picture is scaled to first, in pixels.
        splits: whether there are tiles; if not, the canvas is one tile.
    """

    longest_edge: int
    splits: bool = True

    def sizes(self, width: int, height: int, tile: int) -> list[tuple[int, int]]:
        scaled = _scaled_to(self.longest_edge, width, height)
        if not self.splits:
            return [scaled, (tile, tile)]
        width, height = scaled
        ratio = width / height
        if width >= height:
            width = _whole_tiles(width, tile)
            height = _whole_tiles(int(width / ratio), tile)
        else:
            height = _whole_tiles(height, tile)
            width = _whole_tiles(int(height * ratio), tile)
        return [scaled, (width, height)]

    def layout(self, width: int, height: int, tile: int) -> Layout:
        if max(width, height) <= tile:
            return Layout(height, width)
        rows, columns = height // tile, width // tile
        return Layout(height, width, rows, columns, rows * columns + 1)

    def cut(self, canvas: Pixels, tile: int, resample: Resample) -> Pixels:
        if max(canvas.shape[:2]) <= tile:
            return canvas[None]
        return np.concatenate([tiles(canvas, tile), resize(canvas, tile, tile, resample)[None]])

    def bounded(self, most_pixels: int, tile: int) -> Split:
        tiles_a_side = max(math.isqrt(most_pixels) // tile, 1)
        return replace(self, longest_edge=min(self.longest_edge, tiles_a_side * tile))

    def to_json(self) -> dict[str, Any]:
        return {"kind": "split"} | asdict(self)


def _scaled_to(longest: int, width: int, height: int) -> tuple[int, int]:
    """(width, height) with the longer side ``longest`` and the other one even."""
    ratio = width / height
    if width >= height:
        width, height = longest, int(longest / ratio)
        height += height % 2
    else:
        height, width = longest, int(longest * ratio)
        width += width % 2
    if longest > _LONGEST_SIDE_PX:
        ratio = max(width, 1) / max(height, 1)
        if width >= height:
            width, height = _LONGEST_SIDE_PX, int(_LONGEST_SIDE_PX / ratio)
        else:
            height, width = _LONGEST_SIDE_PX, int(_LONGEST_SIDE_PX * ratio)
    return max(width, 1), max(height, 1)


def _whole_tiles(length: int, tile: int) -> int:
    return math.ceil(length / tile) * tile


def tiles(canvas: Pixels, tile: int) -> Pixels:
    """(rows * tile, columns * tile, 3) -> (rows * columns, tile, tile, 3), row by row."""
    rows, columns = canvas.shape[0] // tile, canvas.shape[1] // tile
    cells = canvas.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2)
    return cells.reshape(-1, tile, tile, 3)
