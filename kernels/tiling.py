"""Canvases that follow the picture's size, and the tiles that an encoder sees of them.

A captioner of one fixed size needs none of this. Those that look at pictures of any size have one
of three ways, each a record here: ``Multiples`` stretches the picture to a multiple of a cell,
``Split`` cuts it into tiles and adds the whole, ``AnyResolution`` pads it into tiles, adds the
whole, and leaves out what the padding gave. Each does, bit for bit, what the image processors that
it names do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.patches import Patches
from srd_edge.kernels.resize import Resample, resize

_LONGEST_SIDE_PX: Final = 4096
"""Of a picture before it is split, as Idefics3 has it."""
_MOST_FRAMES: Final = 64
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

    def to_json(self) -> dict[str, Any]:
        """For the manifest; ``read_tiling`` reads it back."""
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
        return np.concatenate([_tiles(canvas, tile), resize(canvas, tile, tile, resample)[None]])

    def to_json(self) -> dict[str, Any]:
        return {"kind": "split"} | asdict(self)


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
        return np.concatenate([resize(canvas, tile, tile, resample)[None], _tiles(room, tile)])

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


def read_tiling(data: Mapping[str, Any] | None) -> Tiling | None:
    """What ``to_json`` wrote.

    Raises:
        KeyError, TypeError, ValueError: for anything else.
    """
    if data is None:
        return None
    kind = data["kind"]
    if kind == "multiples":
        fewest, most = int(data["fewest_pixels"]), int(data["most_pixels"])
        if not 0 < fewest <= most:
            raise ValueError(f"a canvas of {fewest} to {most} pixels")
        return Multiples(fewest, most, _read_patches(data.get("patches")))
    if kind == "split":
        return Split(_positive(data["longest_edge"]), bool(data["splits"]))
    if kind == "any-resolution":
        resolutions = tuple((_positive(h), _positive(w)) for h, w in data["resolutions"])
        if not resolutions:
            raise ValueError("no resolutions")
        return AnyResolution(resolutions, _positive(data["most_tiles"]), _positive(data["side"]))
    raise ValueError(f"a tiling of kind {kind!r}")


def _read_patches(data: Mapping[str, Any] | None) -> Patches | None:
    if data is None:
        return None
    side, frames = _positive(data["side"]), _positive(data["frames"])
    if frames > _MOST_FRAMES:
        raise ValueError(f"{frames} frames of a picture")
    return Patches(side, frames)


def tiling_of(config: Mapping[str, Any]) -> tuple[Tiling, int] | None:
    """The tiling that a Hugging Face image processor's settings stand for, and its tile in pixels.

    None where they stand for none, or for one that needs the model's settings too.
    """
    size = config.get("size")
    if not isinstance(size, Mapping):
        return None
    if {"shortest_edge", "longest_edge"} <= set(size) and "merge_size" in config:
        tile = int(config["patch_size"]) * int(config["merge_size"])
        return Multiples(int(size["shortest_edge"]), int(size["longest_edge"])), tile
    largest = config.get("max_image_size")
    if set(size) == {"longest_edge"} and isinstance(largest, Mapping):
        splits = bool(config.get("do_image_splitting", True))
        return Split(int(size["longest_edge"]), splits), int(largest["longest_edge"])
    return None


def _positive(value: Any) -> int:
    number = int(value)
    if number < 1:
        raise ValueError(f"{value!r} where a positive number belongs")
    return number


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


def _tiles(canvas: Pixels, tile: int) -> Pixels:
    """(rows * tile, columns * tile, 3) -> (rows * columns, tile, tile, 3), row by row."""
    rows, columns = canvas.shape[0] // tile, canvas.shape[1] // tile
    cells = canvas.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2)
    return cells.reshape(-1, tile, tile, 3)


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
