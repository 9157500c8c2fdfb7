"""What stands below a frame: the Q-map, who speaks, and what the check thought."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.runtime.annotate import annotate
from srd_edge.runtime.heat import FULL_HEAT, heat
from srd_edge.runtime.lettering import Pen
from srd_edge.runtime.records import Opinion, Result

HOT = np.full((5, 5), -0.1, np.float32)
HOT[4, 0] = 0.4
PASSED = Opinion(-0.5, 12.25, None, -1.0)
AGREED = Opinion(-0.1, 20.0, 3.0, -0.5)
REFUSED = Opinion(-0.1, 20.0, 9.75, 2.0)
UNREFERENCED = Opinion(-0.1, 20.0, None, 2.0)
BASE = Result(3, 0.3, "a dog on a lawn", "suspicious", 0.9)


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, int, int]]]:
    """What is written on pictures from now on, with its colours."""
    found: list[tuple[str, tuple[int, int, int]]] = []
    write = Pen.write

    def spy(self: Pen, text: str, *args: object, **bold: object) -> None:
        found.append((text, args[3]))  # type: ignore[arg-type]
        write(self, text, *args, **bold)  # type: ignore[arg-type]

    monkeypatch.setattr(Pen, "write", spy)
    return found


def frame(width: int = 640, height: int = 360) -> Frame:
    return Frame(np.full((height, width, 3), 90, np.uint8), 3, 0.3)


def test_heat_is_where_acting_is_better_than_stopping() -> None:
    cells = heat(HOT)
    assert cells.dtype == np.float32
    assert cells[4, 0] == 1
    assert np.count_nonzero(cells) == 1
    gains = np.array([[-0.2, 0.0, FULL_HEAT / 4, FULL_HEAT / 2]], np.float32)
    np.testing.assert_allclose(heat(gains), [[0, 0, 1 / 16, 1 / 4]])
    np.testing.assert_allclose(heat(gains * 100), [[0, 0, 1 / 4, 1]])


def yellow(picture: Pixels) -> NDArray[np.bool_]:
    red, green, blue = (picture[..., channel].astype(int) for channel in range(3))
    found: NDArray[np.bool_] = (red > 200) & (green > 180) & (blue < 120)
    return found


def test_the_hot_cell_is_bright_in_its_place() -> None:
    picture = annotate(frame(), replace(BASE, q_map=HOT))
    rows, columns = np.nonzero(yellow(picture))
    assert len(rows) > 200
    left = 640 - 14 - 160
    assert left <= columns.min() < columns.max() < left + 160 / 5 + 1
    assert rows.min() > 360
    assert not yellow(annotate(frame(), replace(BASE, q_map=HOT - 1))).any()
    assert not yellow(annotate(frame(), BASE)).any()
    np.testing.assert_array_equal(picture[:357], annotate(frame(), BASE)[:357])


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (10, 10)])
@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (3, 900), (1280, 720), (64, 48)])
def test_the_layout_depends_on_nothing_that_is_said(
    shape: tuple[int, int], size: tuple[int, int]
) -> None:
    given, q_map = frame(*size), np.full(shape, 0.2, np.float32)
    plain = annotate(given, BASE).shape
    for opinion in (None, PASSED, REFUSED):
        shown = replace(BASE, q_map=q_map, opinion=opinion, caption="a dog and " * 40)
        assert annotate(given, shown).shape == plain
        speaking = replace(shown, speaker="reference", held_for=10**6, degraded=("caption",) * 9)
        assert annotate(given, speaking).shape == plain


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ("caption not checked",)),
        ({"opinion": PASSED}, ("nothing odd", "-0.50 nats a token", "12.2 nats", "not asked")),
        ({"opinion": AGREED}, ("reference captioner agrees", "3.0 nats, not refused")),
        (
            {"opinion": REFUSED, "speaker": "reference"},
            ("answered by the reference captioner", "9.8 nats, refused"),
        ),
        ({"opinion": REFUSED}, ("first caption refused for its contradiction, this one passed",)),
        (
            {"opinion": UNREFERENCED, "verdict": "held"},
            ("refused for its confidence or information", "no reference captioner"),
        ),
        ({"q_map": HOT}, ("+0.40 in the best cell",)),
        ({"q_map": HOT - 1}, ("none: -0.60 at best",)),
    ],
)
def test_it_says_why_in_words(
    texts: list[tuple[str, tuple[int, int, int]]],
    change: dict[str, object],
    words: tuple[str, ...],
) -> None:
    annotate(frame(), replace(BASE, **change))  # type: ignore[arg-type]
    said = "\n".join(text for text, _ in texts)
    for word in words:
        assert word in said
    if "q_map" not in change:
        assert "..." not in said


def test_what_exceeds_its_limit_and_who_answered_have_their_colours(
    texts: list[tuple[str, tuple[int, int, int]]],
) -> None:
    annotate(frame(), replace(BASE, opinion=REFUSED, speaker="reference", q_map=HOT))
    colours = {text.split(",")[0]: colour for text, colour in texts}
    assert colours["9.8 nats"] == (255, 122, 92)
    assert colours["answered by the reference captioner"] == (126, 190, 255)
    assert colours["20.0 nats"] == (242, 244, 247)
