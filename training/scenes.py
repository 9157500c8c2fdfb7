"""Scenes: a built-in data set of coloured shapes, drawn with OpenCV from a seed.

A scene is one or two groups of shapes, each with a count, size, colour, kind and place, on a
background, under a light, with or without grain. The same scene is drawn at any size, so that
clips and data sets show the same world. Captions are made in ``scene_captions``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.frames import Pixels

WIDTH_PX: Final = 160
HEIGHT_PX: Final = 120

COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (208, 38, 38),
    "green": (44, 150, 60),
    "blue": (40, 72, 206),
    "yellow": (236, 206, 40),
    "purple": (134, 48, 158),
    "orange": (240, 132, 30),
    "white": (244, 244, 244),
}
BACKGROUNDS: Final[dict[str, tuple[int, int, int]]] = {
    "grey": (128, 130, 132),
    "brown": (112, 82, 58),
    "dark": (40, 42, 50),
    "pink": (232, 178, 190),
}
SHAPES: Final = ("circle", "square", "triangle", "star", "ring")
PLACES: Final[dict[str, tuple[float, float, float, float]]] = {
    # left, top, right, bottom as shares of the frame
    "left": (0.03, 0.1, 0.48, 0.9),
    "right": (0.52, 0.1, 0.97, 0.9),
    "top": (0.08, 0.03, 0.92, 0.48),
    "bottom": (0.08, 0.52, 0.92, 0.97),
    "middle": (0.15, 0.15, 0.85, 0.85),
}
OPPOSITE: Final = {"left": "right", "top": "bottom"}
SIDE: Final = {"small": 0.17, "large": 0.32}
"""Side of a shape as a share of the frame's height."""

Size: TypeAlias = Literal["small", "large"]
Light: TypeAlias = Literal["dim", "normal", "bright"]
GAIN: Final[dict[Light, float]] = {"dim": 0.55, "normal": 0.85, "bright": 1.1}
GRAIN_SIGMA: Final = 16.0


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape. ``x``, ``y``: its centre as shares of width and height; ``turn`` in degrees."""

    x: float
    y: float
    turn: float


@dataclass(frozen=True, slots=True)
class Group:
    """Shapes of one kind standing together."""

    size: Size
    colour: str
    shape: str
    place: str
    things: tuple[Thing, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything there is to draw and to tell; ``seed`` fixes the grain and the light's slope."""

    groups: tuple[Group, ...]
    background: str
    light: Light
    grainy: bool
    seed: int


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw one scene at random: 1 or 2 groups, 1 to 3 shapes each."""
    places = ["middle"]
    if rng.random() < 0.8:
        first = str(rng.choice(["left", "top"]))
        places = [first, OPPOSITE[first]]
    looks: list[tuple[str, str]] = []
    groups = []
    for place in places:
        look = _other_look(rng, looks)
        looks.append(look)
        size: Size = "large" if rng.random() < 0.5 else "small"
        count = int(rng.integers(1, 4)) if size == "small" else int(rng.integers(1, 3))
        groups.append(Group(size, look[0], look[1], place, _scatter(rng, place, size, count)))
    return Scene(
        groups=tuple(groups),
        background=str(rng.choice(list(BACKGROUNDS))),
        light=("dim", "normal", "bright")[int(rng.integers(3))],
        grainy=bool(rng.random() < 0.3),
        seed=int(rng.integers(2**31)),
    )


def draw_scene(scene: Scene, width: int = WIDTH_PX, height: int = HEIGHT_PX) -> Pixels:
    """Draw ``scene``: (height, width, 3) uint8 RGB, antialiased, the same content at every size."""
    rng = np.random.default_rng(scene.seed)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = BACKGROUNDS[scene.background]
    for group in scene.groups:
        side_px = SIDE[group.size] * height
        for thing in group.things:
            _draw_shape(canvas, group.shape, COLOURS[group.colour], thing, side_px)
    lit = canvas * _light_field(scene.light, rng, width, height)
    if scene.grainy:
        grain = rng.normal(0.0, GRAIN_SIGMA, (HEIGHT_PX, WIDTH_PX, 1)).astype(np.float32)
        lit += cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)[:, :, None]
    picture: Pixels = np.clip(np.rint(lit), 0, 255).astype(np.uint8)
    return picture


def _other_look(rng: np.random.Generator, taken: list[tuple[str, str]]) -> tuple[str, str]:
    """A colour and a shape, both different from those already in the scene."""
    colours = [c for c in COLOURS if all(c != other for other, _ in taken)]
    shapes = [s for s in SHAPES if all(s != other for _, other in taken)]
    return str(rng.choice(colours)), str(rng.choice(shapes))


def _scatter(rng: np.random.Generator, place: str, size: Size, count: int) -> tuple[Thing, ...]:
    """Places for ``count`` shapes inside ``place`` that do not overlap (best of several tries)."""
    left, top, right, bottom = PLACES[place]
    half_y = SIDE[size] / 2
    half_x = half_y * HEIGHT_PX / WIDTH_PX
    best: NDArray[np.float64] | None = None
    best_gap = -1.0
    for _ in range(60):
        points = np.column_stack(
            [
                rng.uniform(left + half_x, right - half_x, count),
                rng.uniform(top + half_y, bottom - half_y, count),
            ]
        )
        apart = np.abs(points[:, None] - points[None]) / (2 * half_x, 2 * half_y)
        np.einsum("iik->ik", apart)[:] = np.inf
        gap = float(apart.max(axis=2).min())
        if gap > best_gap:
            best, best_gap = points, gap
        if gap >= 1.05:
            break
    assert best is not None
    turns = rng.uniform(-18, 18, count)
    return tuple(Thing(float(x), float(y), float(t)) for (x, y), t in zip(best, turns, strict=True))


def _draw_shape(
    canvas: Pixels, shape: str, colour: tuple[int, int, int], thing: Thing, side_px: float
) -> None:
    shift = 4  # OpenCV draws with 4 fractional bits, so that small scenes keep their proportions
    unit = 1 << shift
    centre = np.array([thing.x * canvas.shape[1], thing.y * canvas.shape[0]])
    radius = side_px / 2
    whole_centre = (round(centre[0] * unit), round(centre[1] * unit))
    if shape == "circle":
        cv2.circle(canvas, whole_centre, round(radius * unit), colour, -1, cv2.LINE_AA, shift)
    elif shape == "ring":
        thickness = max(round(radius * 0.42), 1)
        middle = round((radius - thickness / 2) * unit)
        cv2.circle(canvas, whole_centre, middle, colour, thickness, cv2.LINE_AA, shift)
    else:
        outline = _OUTLINES[shape] @ _rotation(thing.turn).T * radius + centre
        points = np.rint(outline * unit).astype(np.int32)
        cv2.fillPoly(canvas, [points], colour, cv2.LINE_AA, shift)


def _rotation(degrees: float) -> NDArray[np.float64]:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _regular(corners: int, first_degrees: float, radii: tuple[float, ...]) -> NDArray[np.float64]:
    angles = np.deg2rad(first_degrees + 360.0 * np.arange(corners) / corners)
    length = np.resize(np.array(radii), corners)
    return np.column_stack([np.cos(angles) * length, np.sin(angles) * length])


_OUTLINES: Final = {
    "square": _regular(4, 45, (1.25,)),
    "triangle": _regular(3, -90, (1.2,)),
    "star": _regular(10, -90, (1.2, 0.5)),
}


def _light_field(
    light: Light, rng: np.random.Generator, width: int, height: int
) -> NDArray[np.float32]:
    """(height, width, 1) gain: the light's level with a soft slope in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope = 0.12 * (np.cos(angle) * x + np.sin(angle) * y)
    gain: NDArray[np.float32] = ((1.0 + slope) * GAIN[light]).astype(np.float32)
    return gain[:, :, None]
