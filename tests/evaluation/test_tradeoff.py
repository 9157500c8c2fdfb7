"""Every label of the trade-off plot can be read, however crowded the plot is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from srd_edge.evaluation.tradeoff import BOTTOM, LEFT, RIGHT, TOP, Contestant, Rectangle, lay_out


def contestant(name: str, drop: float, asr: float, cost: float = 1.0) -> Contestant:
    return Contestant(name, "rival", drop, asr, (max(asr - 0.05, 0), min(asr + 0.05, 1)), cost)


def drawn(seed: int) -> list[Contestant]:
    """Fourteen, most of them in the corner of the good defences."""
    rng = np.random.default_rng(seed)
    names = [f"contestant{i}"[-4 - i :] for i in range(14)]
    return [
        contestant(name, rng.random() ** 3 / 2, rng.random() ** 3, 1 + 30 * rng.random())
        for name in names
    ]


@pytest.mark.parametrize(
    "contestants",
    [
        [contestant("alone", 0.0, 0.0)],
        [contestant(f"same{i}", 0.01, 0.02) for i in range(14)],
        [contestant("gains", -0.3, 1.0), contestant("loses all", 1.0, 0.0, 40.0)],
        *(drawn(seed) for seed in range(8)),
    ],
)
def test_labels_have_room_of_their_own(contestants: list[Contestant]) -> None:
    plot = lay_out(contestants)
    assert sorted(m.contestant.name for m in plot.markers) == sorted(c.name for c in contestants)
    for marker in plot.markers:
        assert LEFT < marker.x < RIGHT and TOP < marker.y < BOTTOM
        assert marker.label.room.within(Rectangle(LEFT, TOP, RIGHT, BOTTOM))
    for one, other in itertools.combinations([m.label.room for m in plot.markers], 2):
        assert not one.meets(other)


def test_the_scale_is_that_of_the_ticks() -> None:
    plot = lay_out([contestant("a", 0.1, 0.2, 4.0), contestant("b", 0.4, 0.8, 16.0)])
    markers = {marker.contestant.name: marker for marker in plot.markers}
    across = {tick: place for place, tick in plot.x_ticks}
    down = {tick: place for place, tick in plot.y_ticks}
    assert [markers[name].x for name in "ab"] == pytest.approx([across[10], across[40]])
    assert [markers[name].y for name in "ab"] == pytest.approx([down[20], down[80]])
    assert markers["a"].high < markers["a"].y < markers["a"].low, "y is downwards"
    assert markers["b"].radius ** 2 / markers["a"].radius ** 2 == pytest.approx(4.0)
    assert [m.contestant.name for m in plot.markers] == ["b", "a"], "small ones are on top"


def test_no_name_is_too_long() -> None:
    (marker,) = lay_out([contestant("path/to/" * 20, 0.1, 0.5)]).markers
    assert math.isfinite(marker.label.x) and marker.label.room.left > LEFT
