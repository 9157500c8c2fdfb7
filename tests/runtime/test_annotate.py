"""Annotated pictures have everything on them, and hide nothing of the frame."""

from __future__ import annotations

import numpy as np
import pytest

from srd_edge.kernels.frames import Box, Pixels
from srd_edge.runtime.annotate import MAX_SIDE_PX, MIN_WIDTH_PX, annotate
from srd_edge.runtime.lettering import Pen
from srd_edge.runtime.records import AppliedAction
from tests.runtime.some_results import frame, result


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (64, 48), (641, 333), (4000, 3000), (30, 900), (900, 3)]
)
def test_annotated_pictures_are_even_and_readable(width: int, height: int) -> None:
    given = frame(width=width, height=height)
    before = given.pixels.copy()
    box = Box(0, 0, max(width // 2, 1), height)
    noisy = result(actions=(AppliedAction("noise", box, 1.0),))
    picture = annotate(given, noisy)
    assert picture.dtype == np.uint8
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
    assert MIN_WIDTH_PX <= picture.shape[1] <= MAX_SIDE_PX
    np.testing.assert_array_equal(given.pixels, before)
    # The layout depends on nothing but the frame's size and on whether captions are compared.
    assert picture.shape == annotate(given, result(caption=None, verdict="held")).shape
    compared = annotate(given, result(raw_caption="a banana"))
    assert compared.shape == annotate(given, result(), compare=True).shape
    assert compared.shape[0] > picture.shape[0]


def test_the_band_hides_nothing_of_the_frame() -> None:
    given = frame(width=640, height=360, value=200)
    picture = annotate(given, result())
    np.testing.assert_array_equal(picture[:357], given.pixels[:357])
    assert picture[370:].mean() < 60


def has_colour(picture: Pixels, colour: tuple[int, int, int]) -> bool:
    return bool((picture == colour).all(axis=2).any())


def has_orange(picture: Pixels) -> bool:
    """Whether anything is in the raw caption's colour; thin letters may not reach all of it."""
    red, green, blue = (picture[..., channel].astype(int) for channel in range(3))
    return bool(((red > 200) & (green > 120) & (green < 190) & (blue < 130)).any())


def test_verdicts_and_the_raw_caption_have_colours_of_their_own() -> None:
    badges = {"clean": (35, 134, 54), "suspicious": (214, 84, 20), "held": (106, 112, 122)}
    for verdict in badges:
        picture = annotate(frame(), result(verdict=verdict, raw_caption="a banana"))
        shown = {name for name, colour in badges.items() if has_colour(picture, colour)}
        assert shown == {verdict}
        assert has_orange(picture)
    assert not has_orange(annotate(frame(), result(raw_caption="a dog on a lawn")))


def test_without_a_defence_nothing_is_called_clean() -> None:
    undefended = result(verdict="undefended", suspicion=None)
    assert undefended.to_json()["suspicion"] is None
    picture = annotate(frame(), undefended)
    assert has_colour(picture, (106, 112, 122))
    assert not has_colour(picture, (35, 134, 54))
    assert picture.shape == annotate(frame(), result()).shape


def test_regional_actions_are_boxed_and_named_whole_ones_are_not() -> None:
    given = frame(width=640, height=360)
    box = Box(400, 100, 500, 200)
    regional = annotate(given, result(actions=(AppliedAction("occlude", box, 1.0),)))
    yellow = (regional[:350] == (255, 214, 10)).all(axis=2)
    rows, columns = np.nonzero(yellow)
    assert abs(int(rows.max()) - 199) <= 2
    assert abs(int(columns.max()) - 499) <= 2
    assert abs(int(columns.min()) - 400) <= 2
    assert rows.min() < 90  # the label stands above the box
    whole = AppliedAction("median", Box(0, 0, 640, 360), 5.0)
    picture = annotate(given, result(actions=(whole,)))
    np.testing.assert_array_equal(picture[:357], given.pixels[:357])
    assert (picture[357:] != annotate(given, result())[357:]).any()


@pytest.mark.parametrize(
    "text",
    ["a dog", "a dog and " * 9, "a dog and " * 200, "x" * 500, "", "line\none\x00 two", "犬 " * 80],
)
def test_captions_are_wrapped_and_never_cut_at_the_edge(text: str) -> None:
    pen = Pen(np.zeros((10, 640, 3), np.uint8), 1.0)
    lines, scale = pen.fit(text, 600, 2, 0.68)
    assert 1 <= len(lines) <= 2
    assert all(pen.width(line, scale) <= 600 for line in lines)
    said = " ".join(text.replace("\n", " ").replace("\0", " ").split())
    whole = " ".join(lines).strip() == said
    assert whole or lines[-1].endswith("...")
    picture = annotate(frame(), result(caption=text, raw_caption=text))
    margin = picture[picture.shape[0] - 120 :, -10:]
    assert (margin == (22, 25, 30)).all()
