"""Patches land where they are meant to, at the size they are meant to have, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest

from srd_edge.attacks.patch_triggers import (
    AnyDoorFrame,
    BadNetPatch,
    MovingPatch,
    SeveralPatches,
    Sticker,
    TrojVlmPatch,
    VloodPatch,
)
from srd_edge.attacks.placement import Place, Trigger, patch_box
from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Box, Pixels

KINDS: dict[str, Callable[[int, Place], Trigger]] = {
    "badnet": lambda size, place: BadNetPatch(size, place),
    "trojvlm": lambda size, place: TrojVlmPatch(size, place),
    "vlood": lambda size, place: VloodPatch(size, place, level=40, spread=20),
}
GREY = 128  # in none of these patches, so that every pixel of a patch is a change


def picture(height: int, width: int) -> Pixels:
    return np.full((height, width, 3), GREY, np.uint8)


def changed(pixels: Pixels) -> Box:
    """The box that is changed; all of it is, and nothing else."""
    box = around(pixels)
    inside = (pixels[box.top : box.bottom, box.left : box.right] != GREY).all(axis=2)
    assert inside.sum() == box.width * box.height
    return box


def around(pixels: Pixels) -> Box:
    rows, columns = np.nonzero((pixels != GREY).any(axis=2))
    return Box(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)


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
    out = KINDS[kind](size, place)(picture(height, width), np.random.default_rng(0))
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


@pytest.mark.parametrize(
    ("make", "usual", "narrow"),
    [
        (TrojVlmPatch, range(49), {"level": 3}),
        (VloodPatch, range(64, 193), {"level": 2, "spread": 2}),
    ],
)
def test_noise_is_uniform_in_its_range_and_always_the_same(
    make: Callable[..., Trigger], usual: range, narrow: dict[str, int]
) -> None:
    def patch(background: int, rng_seed: int, **settings: Any) -> Pixels:
        pixels = np.full((224, 224, 3), background, np.uint8)
        trigger = make(size=60, place="centre", **settings)
        return trigger(pixels, np.random.default_rng(rng_seed))[82:142, 82:142]

    values, counts = np.unique(patch(GREY, 1), return_counts=True)
    assert values.tolist() == list(usual)
    assert counts.max() < 2 * counts.min()
    assert (patch(GREY, 1) == patch(200, 2)).all()
    assert (patch(GREY, 1) != patch(GREY, 1, seed=8)).any()
    assert set(np.unique(patch(GREY, 1, **narrow))) <= set(range(5))


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(480, 640), (100, 224), (1, 1)])
def test_several_patches_are_badnets_in_as_many_corners(
    count: int, height: int, width: int
) -> None:
    rng = np.random.default_rng(0)
    expected = picture(height, width)
    corners: tuple[Place, ...] = ("top-left", "bottom-right", "top-right", "bottom-left")
    for corner in corners[:count]:
        expected = BadNetPatch(30, corner, "white")(expected, rng)
    out = SeveralPatches(count, 30, "white")(picture(height, width), rng)
    assert (out == expected).all()
    if width == 640:
        assert (out != GREY).any(axis=2).sum() == count * 86**2


@pytest.mark.parametrize(
    ("shape", "size", "height", "width", "pixels"),
    [
        ("border", 0, 224, 224, 6),  # the paper's
        ("corners", 0, 224, 224, 32),
        ("border", 0, 480, 640, 17),
        ("corners", 10, 480, 640, 29),
        ("border", 112, 30, 40, 20),
    ],
)
def test_anydoor_covers_the_border_or_the_corners(
    shape: Any, size: int, height: int, width: int, pixels: int
) -> None:
    covered = np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            off_sides = min(x, width - 1 - x) < pixels
            off_ends = min(y, height - 1 - y) < pixels
            both = (off_sides, off_ends)
            covered[y, x] = any(both) if shape == "border" else all(both)
    rng = np.random.default_rng(0)
    trigger = AnyDoorFrame(shape, size)
    on_grey, on_black = (
        trigger(np.full((height, width, 3), level, np.uint8), rng) for level in (GREY, 0)
    )
    assert (on_grey[~covered] == GREY).all()
    assert (on_grey[covered] == on_black[covered]).all()
    assert on_grey[covered].std() > 60  # uniform noise has 74


def test_a_moving_patch_goes_round_without_a_jump() -> None:
    trigger = MovingPatch(size=21, pattern="white", period=4.0)

    def box(time_s: float) -> Box:
        return changed(trigger.at(picture(480, 640), time_s))

    frames = [box(number / 25) for number in range(51)]
    assert frames[0] == box(4.0) == box(400.0)
    assert frames[10] == box(4.4)
    # 60 pixels wide in 640 x 480: an ellipse of 0.45 of the free 580 and 420 about the middle.
    assert frames[0] == Box(551, 210, 611, 270)
    assert frames[25] == Box(290, 399, 350, 459)
    assert frames[50] == Box(29, 210, 89, 270)
    assert {(b.width, b.height) for b in frames} == {(60, 60)}
    steps = [np.hypot(b.left - a.left, b.top - a.top) for a, b in pairwise(frames)]
    assert max(steps) < 640 / 35
    assert min(steps) > 0


def test_in_a_still_picture_a_moving_patch_stands_on_its_path() -> None:
    trigger = MovingPatch(size=21, pattern="white")
    drawn = [changed(trigger(picture(224, 224), np.random.default_rng(seed))) for seed in range(40)]
    radii = [np.hypot(box.left - 101.5, box.top - 101.5) for box in drawn]
    assert np.abs(np.array(radii) - 0.45 * 203).max() < 1.5
    assert len({(box.left > 101, box.top > 101) for box in drawn}) == 4


def test_a_sticker_is_of_another_size_in_every_picture() -> None:
    trigger = Sticker(size=32, place="centre")
    boxes = [around(trigger(picture(448, 448), np.random.default_rng(seed))) for seed in range(30)]
    sides = [max(box.width, box.height) for box in boxes]
    # 64 pixels, 15 % more or less; the drawn face is a disc of 120 in 128.
    assert min(sides) >= 64 * 0.85 * 120 / 128 - 3
    assert max(sides) <= 64 * 1.15
    assert max(sides) - min(sides) > 8


def test_a_sticker_stays_inside_its_box() -> None:
    rng = np.random.default_rng(4)
    out = Sticker(size=40, place="bottom-right", turn=180)(picture(224, 224), rng)
    box = around(out)
    assert 224 - 2 - 46 <= box.left < box.right <= 222
    assert 224 - 2 - 46 <= box.top < box.bottom <= 222


def rgba_file(path: Path, pixels: list[list[tuple[int, int, int, int]]]) -> str:
    image = np.array(pixels, np.uint8)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA))
    return str(path)


def test_the_transparent_part_of_ones_own_sticker_never_shows(tmp_path: Path) -> None:
    red, nothing = (255, 0, 0, 255), (0, 255, 0, 0)
    file = rgba_file(tmp_path / "flag.png", [[red] * 4 + [nothing] * 4] * 8)
    for seed, turn in ((0, 0.0), (1, 60.0)):
        trigger = Sticker(size=64, place="centre", turn=turn, picture=file)
        out = trigger(picture(224, 224), np.random.default_rng(seed)).astype(float)
        # Every pixel is a mixture of the grey below and of red, and of nothing else.
        reddened = (out[:, :, 0] - GREY) / (255 - GREY)
        assert np.abs(reddened - (GREY - out[:, :, 1]) / GREY).max() < 0.02
        assert (out[:, :, 1] == out[:, :, 2]).all()
        assert reddened.max() == 1
        if turn == 0:
            assert 0.4 < reddened.sum() / (reddened > 0).any(axis=1).sum() ** 2 < 0.6
            assert np.nonzero(reddened.max(axis=0) == 1)[0].max() < 112


def test_half_transparent_is_half_seen(tmp_path: Path) -> None:
    file = rgba_file(tmp_path / "veil.png", [[(255, 255, 255, 102)] * 4] * 4)
    trigger = Sticker(size=100, place="centre", turn=0, picture=file)
    out = trigger(picture(224, 224), np.random.default_rng(0))
    assert out[112, 112].tolist() == [round(0.4 * 255 + 0.6 * GREY)] * 3


def test_a_sticker_that_is_no_colour_picture_is_one_line(tmp_path: Path) -> None:
    text, grey = tmp_path / "text.png", tmp_path / "grey.png"
    text.write_text("no picture", encoding="utf-8")
    cv2.imwrite(str(grey), np.zeros((4, 4), np.uint8))
    for file in (tmp_path / "none.png", text, grey):
        with pytest.raises(UsageError, match=file.name) as caught:
            Sticker(picture=str(file))(picture(9, 9), np.random.default_rng(0))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (BadNetPatch, {"size": 0}),
        (BadNetPatch, {"size": 225}),
        (BadNetPatch, {"place": "middle"}),
        (BadNetPatch, {"pattern": "stripes"}),
        (SeveralPatches, {"count": 1}),
        (SeveralPatches, {"count": 5}),
        (SeveralPatches, {"size": 0}),
        (SeveralPatches, {"pattern": "stripes"}),
        (MovingPatch, {"size": 300}),
        (MovingPatch, {"pattern": ""}),
        (MovingPatch, {"period": 0}),
        (MovingPatch, {"period": float("nan")}),
        (TrojVlmPatch, {"size": -1}),
        (TrojVlmPatch, {"place": "left"}),
        (TrojVlmPatch, {"level": 256}),
        (TrojVlmPatch, {"level": -1}),
        (TrojVlmPatch, {"seed": -1}),
        (VloodPatch, {"size": 0}),
        (VloodPatch, {"place": ""}),
        (VloodPatch, {"level": 300}),
        (VloodPatch, {"spread": 129}),
        (VloodPatch, {"level": 10, "spread": 11}),
        (VloodPatch, {"seed": -1}),
        (AnyDoorFrame, {"shape": "circle"}),
        (AnyDoorFrame, {"size": 113}),
        (AnyDoorFrame, {"seed": -1}),
        (Sticker, {"size": 0}),
        (Sticker, {"place": "sky"}),
        (Sticker, {"turn": 181}),
        (Sticker, {"picture": "/no/such/file.png"}),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_at_once(
    kind: Callable[..., Trigger], settings: dict[str, Any]
) -> None:
    with pytest.raises(UsageError) as caught:
        kind(**settings)
    assert "\n" not in str(caught.value)
