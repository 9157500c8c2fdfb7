"""What is read before a caption: words, features, and how they are counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from srd_edge.errors import BundleError
from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle_specs import CaptionerSpec, TileIds
from srd_edge.runtime.prefixes import prefix_for

SPEC = CaptionerSpec("any", "prefix", {}, layers=1, heads=1, head_dim=4, before=(1, 2), after=(3,))
TILES = TileIds(
    cells=(((11,), (12, 12)), ((21,), (22,))), between_lines=(5,), whole=(6, 7), alone=(8,)
)


def read(spec: CaptionerSpec, layout: Layout, count: int) -> list[int]:
    """The prefix with a 0 for each feature."""
    prefix = prefix_for(spec, layout, count)
    words = iter(prefix.words.tolist())
    return [0 if feature else next(words) for feature in prefix.features]


def test_a_picture_stands_between_the_words() -> None:
    prefix = prefix_for(SPEC, Layout(8, 8), 4)
    assert read(SPEC, Layout(8, 8), 4) == [1, 2, 0, 0, 0, 0, 3]
    assert prefix.positions.tolist() == [list(range(7))] * 3
    assert prefix.following == 7


def test_a_picture_alone_has_no_words() -> None:
    prefix = prefix_for(replace(SPEC, before=(), after=()), Layout(8, 8), 2)
    assert prefix.words.size == 0
    assert prefix.features.all()


def test_tiles_come_line_by_line_and_then_the_whole() -> None:
    spec = replace(SPEC, tiles=TILES)
    assert read(spec, Layout(16, 16, 2, 2, 5), 5) == [
        *(1, 2, 11, 0, 12, 12, 0, 5, 21, 0, 22, 0, 6, 7, 0, 3),
    ]
    assert read(spec, Layout(8, 8), 2) == [1, 2, 8, 0, 0, 3]


def test_more_tiles_than_there_are_words_for_are_refused() -> None:
    with pytest.raises(BundleError, match="at most 2 x 2 tiles"):
        prefix_for(replace(SPEC, tiles=TILES), Layout(8, 24, 1, 3, 4), 4)


def test_a_grid_is_counted_by_row_and_column() -> None:
    prefix = prefix_for(replace(SPEC, positions="grid"), Layout(16, 24, 2, 3), 6)
    assert prefix.positions.tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5],
        [0, 1, 2, 2, 2, 3, 3, 3, 5],
        [0, 1, 2, 3, 4, 2, 3, 4, 5],
    ]
    assert prefix.following == 6
