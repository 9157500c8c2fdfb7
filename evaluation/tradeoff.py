"""What a defence costs on clean pictures against what the attack still achieves: a plot's geometry.

Everything is in the units of the drawing, x to the right and y downwards; the page's template turns
it into SVG. Labels stand beside their markers where there is room, and otherwise further off with a
line to them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

WIDTH: Final = 600.0
HEIGHT: Final = 400.0
LEFT: Final = 52.0
RIGHT: Final = WIDTH - 14.0
TOP: Final = 14.0
BOTTOM: Final = HEIGHT - 46.0

_TICKS: Final = 6
_UNIT_AREA: Final = 20.0
"""Square of the radius of a marker of cost 1."""
_LARGEST: Final = 22.0
_LETTER: Final = (6.9, 13.0)
"""Width and height of a letter of a label, about."""
_GAP: Final = 4.0
_BESIDE: Final = 0.3
_DISTANCES: Final = (0.0, 9.0, 18.0, 30.0, 44.0, 60.0, 78.0, 100.0, 125.0)
_DIRECTIONS: Final = (0, 180, 315, 45, 225, 135, 270, 90, 337, 22, 202, 157, 292, 67, 247, 112)
"""Degrees, to the right first, then to the left, above and below."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """What is drawn of a contestant.

    Args:
        name: its label.
        kind: decides the shape of its marker.
        drop: share of clean CIDEr-D that is lost.
        asr: attack success rate.
        asr_interval: its low and high end.
        cost: its marker's area is proportional to it.
    """

    name: str
    kind: str
    drop: float
    asr: float
    asr_interval: tuple[float, float]
    cost: float


class Rectangle(NamedTuple):
    """Corners in the drawing."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Rectangle) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def within(self, frame: Rectangle) -> bool:
        across = frame.left <= self.left and self.right <= frame.right
        return across and frame.top <= self.top and self.bottom <= frame.bottom


_FRAME: Final = Rectangle(LEFT, TOP, RIGHT, BOTTOM)


@dataclass(frozen=True, slots=True)
class Label:
    """A name in the drawing.

    Args:
        room: what the text may take; it stands on the lower edge.
        anchor: where in the text its ``x`` is, as in SVG: the end that faces the marker.
        leader: end of a line from the marker, for a label that is further off.
    """

    room: Rectangle
    anchor: Literal["start", "middle", "end"]
    leader: tuple[float, float] | None

    @property
    def x(self) -> float:
        left, right = self.room.left, self.room.right
        return {"start": left, "middle": (left + right) / 2, "end": right}[self.anchor]


@dataclass(frozen=True, slots=True)
class Marker:
    """A contestant in the drawing.

    Args:
        contestant: whose it is.
        x, y, radius: a circle of the marker's area.
        low, high: y of the ends of the ASR's interval.
        label: where its name stands.
    """

    contestant: Contestant
    x: float
    y: float
    radius: float
    low: float
    high: float
    label: Label


@dataclass(frozen=True, slots=True)
class Plot:
    """The drawing: markers with the largest first, ticks as (position, percent)."""

    markers: tuple[Marker, ...]
    x_ticks: tuple[tuple[float, float], ...]
    y_ticks: tuple[tuple[float, float], ...]


def lay_out(contestants: Sequence[Contestant]) -> Plot:
    """Scale, and find room for every label."""
    drops = [100 * c.drop for c in contestants]
    start, end = min([0.0, *drops]), max([1.0, *drops])
    pad = 0.06 * (end - start)

    def across(percent: float) -> float:
        return LEFT + (percent - start + pad) / (end - start + 2 * pad) * (RIGHT - LEFT)

    def down(percent: float) -> float:
        return BOTTOM - (percent + 6) / 112 * (BOTTOM - TOP)

    most = max([1.0, *(c.cost for c in contestants)])
    area = min(_UNIT_AREA, _LARGEST**2 / most)
    places = [
        (across(100 * c.drop), down(100 * c.asr), max(math.sqrt(area * c.cost), 3.0))
        for c in contestants
    ]
    taken = [_around(x, y, 0.85 * radius) for x, y, radius in places]
    markers = []
    # From the bottom, where good defences crowd, so that they get the nearest room.
    for i in sorted(range(len(contestants)), key=lambda i: (-places[i][1], places[i][0])):
        contestant, (x, y, radius) = contestants[i], places[i]
        others = [*taken[:i], *taken[i + 1 :]]
        label = _place(contestant.name, x, y, radius, others)
        taken.append(label.room)
        low, high = (down(100 * share) for share in contestant.asr_interval)
        markers.append(Marker(contestant, x, y, radius, low, high, label))
    return Plot(
        tuple(sorted(markers, key=lambda marker: -marker.radius)),
        tuple((across(tick), tick) for tick in _nice_ticks(start - pad, end + pad)),
        tuple((down(tick), float(tick)) for tick in range(0, 101, 20)),
    )


def _nice_ticks(low: float, high: float) -> list[float]:
    """The multiples of 1, 2 or 5 times a power of ten between ``low`` and ``high``."""
    raw = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _around(x: float, y: float, radius: float) -> Rectangle:
    return Rectangle(x - radius, y - radius, x + radius, y + radius)


def _place(name: str, x: float, y: float, radius: float, taken: Sequence[Rectangle]) -> Label:
    """The nearest free room for a label; the nearest at all where everything is taken."""
    candidates = list(_candidates(name, x, y, radius))
    free = (c for c in candidates if not any(c.room.meets(other) for other in taken))
    return next(free, candidates[0])


def _candidates(name: str, x: float, y: float, radius: float) -> Iterator[Label]:
    width, height = _LETTER[0] * len(name), _LETTER[1]
    outside = True  # of the frame, as yet
    for distance in _DISTANCES:
        for degrees in _DIRECTIONS:
            east, north = math.cos(math.radians(degrees)), -math.sin(math.radians(degrees))
            near_x = x + east * (radius + _GAP + distance)
            near_y = y + north * (radius + _GAP + distance)
            # The edge of the label that faces the marker is the near one.
            left = near_x - width * (1 - east) / 2
            top = near_y - height * (1 - north) / 2
            room = Rectangle(left, top, left + width, top + height)
            if room.within(_FRAME):
                outside = False
                leader = (near_x, near_y) if distance else None
                yield Label(room, _anchor(east), leader)
    if outside:  # a name that is longer than the plot is wide
        left = LEFT + _GAP
        yield Label(Rectangle(left, y - height, left + width, y), "start", None)


def _anchor(east: float) -> Literal["start", "middle", "end"]:
    if abs(east) < _BESIDE:
        return "middle"
    return "start" if east > 0 else "end"
