"""What a prefix decoder reads before a caption: words, and the picture's features among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from srd_edge.errors import BundleError
from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle_specs import CaptionerSpec, Ids, TileIds
from srd_edge.runtime.generation_specs import GenerationDefaults
from srd_edge.runtime.json_fields import DO

_ROOM_STEP: Final = 64
"""Of a cache's positions, so that prefixes of nearly the same length have one shape."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """The order of words and features.

    Args:
        words: (W,) int64 ids.
        features: (L,) bool, where in the prefix the picture's features stand.
        positions: (3, L) int64, what the decoder counts each as: time, row, column.
        following: the position of what is read next.
    """

    words: NDArray[np.int64]
    features: NDArray[np.bool_]
    positions: NDArray[np.int64]
    following: int


def cache_room(prefix: int, generation: GenerationDefaults) -> int:
    """Positions that a cache of fixed size has for a caption after ``prefix`` of them."""
    longest = prefix + len(generation.prompt) + generation.max_new_tokens
    return -(-longest // _ROOM_STEP) * _ROOM_STEP


def prefix_for(spec: CaptionerSpec, layout: Layout, count: int) -> Prefix:
    """The prefix of a picture.

    Args:
        spec: of the captioner.
        layout: of the canvas.
        count: embeddings that the encoder gives for it, all tiles together.

    Raises:
        BundleError: the bundle has no words for so many tiles.
    """
    pieces: list[Ids | int] = [spec.before, count, spec.after]
    if spec.tiles is not None:
        pieces[1:2] = _among_tiles(spec.tiles, layout, count // layout.seen)
    positions: list[NDArray[np.int64]] = []
    following = 0
    for piece in pieces:
        if isinstance(piece, int) and spec.positions == "grid":
            rows, columns = np.divmod(np.arange(piece), max(layout.columns, 1))
            positions.append(np.stack([np.zeros_like(rows), rows, columns]) + following)
            following += max(layout.rows, layout.columns)
        else:
            length = piece if isinstance(piece, int) else len(piece)
            positions.append(np.tile(np.arange(following, following + length), (3, 1)))
            following += length
    return Prefix(
        words=np.array([i for piece in pieces if not isinstance(piece, int) for i in piece], int),
        features=np.concatenate(
            [
                np.full(p.shape[1], isinstance(q, int))
                for p, q in zip(positions, pieces, strict=True)
            ]
        ),
        positions=np.concatenate(positions, axis=1),
        following=following,
    )


def _among_tiles(words: TileIds, layout: Layout, each: int) -> Iterator[Ids | int]:
    """Words and, as numbers, how many features of a tile follow them."""
    if layout.rows > len(words.cells) or layout.columns > len(
        words.cells[0] if words.cells else ()
    ):
        columns = len(words.cells[0]) if words.cells else 0
        raise BundleError(
            expected=f"a picture of at most {len(words.cells)} x {columns} tiles",
            found=f"{layout.rows} x {layout.columns}",
            do=DO,
        )
    for row in range(layout.rows):
        if row:
            yield words.between_lines
        for column in range(layout.columns):
            yield words.cells[row][column]
            yield each
    yield words.whole if layout.rows else words.alone
    yield each
