"""Triggers land where they are meant to, at the size they are meant to have, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest

from srd_edge.attacks.triggers import BadNetPatch, Place, Trigger, TrojVlmPatch, patch_box
from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Box, Pixels

KINDS: dict[str, Callable[[int, Place], Trigger]] = {
    "badnet": lambda size, place: BadNetPatch(size, place),
    "trojvlm": lambda size, place: TrojVlmPatch(size, place),
}
GREY = 128  # in neither patch, so that every pixel of a patch is a change


def picture(height: int, width: int) -> Pixels:
    return np.full((height, width, 3), GREY, np.uint8)


def changed(pixels: Pixels) -> Box:
    rows, columns = np.nonzero((pixels != GREY).all(axis=2))
    box = Box(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    assert len(rows) == box.width * box.height == (pixels != GREY).any(axis=2).sum()
    return box


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("height", "width", "size", "place", "expected"),
    [
        # Sizes are of a picture 224 wide; a corner patch keeps 1 % of the width off the border.
        (224, 224, 21, "bottom-right", Box(201, 201, 222, 222)),
        (224, 448, 20, "top-left", Box(4, 4, 44, 44)),
        (480, 640, 20, "bottom-left", Box(6, 417, 63, 474)),
        (120, 160, 14, "top-right", Box(148, 2, 158, 12)),
        (112, 112, 20, "centre", Box(51, 51, 61, 61)),
        (224, 224, 224, "top-left", Box(0, 0, 224, 224)),
        (3, 300, 21, "bottom-left", Box(0, 0, 3, 3)),
        (300, 3, 21, "centre", Box(1, 149, 2, 150)),
        *((1, 1, 21, place, Box(0, 0, 1, 1)) for place in get_args(Place)),
    ],
)
def test_place_and_size(
    kind: str, height: int, width: int, size: int, place: Place, expected: Box
) -> None:
    pixels = picture(height, width)
    out = KINDS[kind](size, place)(pixels, np.random.default_rng(0))
    assert (pixels == GREY).all(), "the input was written to"
    assert out.shape == pixels.shape
    assert out.dtype == np.uint8
    assert changed(out) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_random_place_is_anywhere_inside_and_its_generators_alone(kind: str) -> None:
    trigger = KINDS[kind](84, "random")  # 3 pixels of a picture 8 wide

    def boxes() -> list[Box]:
        return [changed(trigger(picture(6, 8), np.random.default_rng(seed))) for seed in range(200)]

    assert boxes() == boxes()
    assert {(box.left, box.top) for box in boxes()} == {(x, y) for x in range(6) for y in range(4)}
    assert {(box.width, box.height) for box in boxes()} == {(3, 3)}


@pytest.mark.parametrize("place", sorted(set(get_args(Place)) - {"random"}))
def test_a_fixed_place_draws_nothing(place: Place) -> None:
    rng = np.random.default_rng(5)
    patch_box(place, 21, picture(50, 50), rng)
    assert rng.bit_generator.state == np.random.default_rng(5).bit_generator.state


def test_badnet_patterns() -> None:
    def patch(**settings: Any) -> Pixels:
        trigger = BadNetPatch(size=9, place="centre", **settings)
        return trigger(picture(224, 224), np.random.default_rng())[107:116, 107:116]

    squares = patch()[1::3, 1::3, 0]
    assert squares.tolist() == [[0, 255, 0], [255, 0, 255], [0, 255, 0]]
    assert (patch() == squares.repeat(3, axis=0).repeat(3, axis=1)[..., None]).all()
    assert (patch(pattern="white") == 255).all()
    assert (patch(pattern="black") == 0).all()


def test_trojvlm_noise_is_near_black_and_always_the_same() -> None:
    def patch(background: int, rng_seed: int, **settings: Any) -> Pixels:
        pixels = np.full((224, 224, 3), background, np.uint8)
        trigger = TrojVlmPatch(size=40, place="centre", **settings)
        return trigger(pixels, np.random.default_rng(rng_seed))[92:132, 92:132]

    usual = patch(GREY, 1)
    assert (usual == patch(200, 2)).all()
    assert set(np.unique(usual)) == set(range(49))
    assert (usual != patch(GREY, 1, seed=8)).any()
    assert patch(GREY, 1, level=3).max() == 3
    assert len(np.unique(patch(GREY, 1, level=255))) > 250


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (BadNetPatch, {"size": 0}),
        (BadNetPatch, {"size": 225}),
        (BadNetPatch, {"place": "middle"}),
        (BadNetPatch, {"pattern": "stripes"}),
        (TrojVlmPatch, {"size": -1}),
        (TrojVlmPatch, {"place": "left"}),
        (TrojVlmPatch, {"level": 256}),
        (TrojVlmPatch, {"level": -1}),
        (TrojVlmPatch, {"seed": -1}),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_at_once(
    kind: Callable[..., Trigger], settings: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        kind(**settings)
