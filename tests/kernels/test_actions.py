"""Action tables: the numbering, where actions land, and the mask so far."""

import json
import math
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge.errors import UsageError
from srd_edge.kernels.actions import (
    DEFAULT_TABLE,
    PRESETS,
    SRD_TABLE,
    STOP,
    ActionTable,
    Perturbation,
    apply_action,
)
from srd_edge.kernels.frames import Box

Array: TypeAlias = NDArray[Any]


def test_srd_numbering() -> None:
    for a in range(500):
        size = (20, 40, 60, 80, 200)[a // 100]
        x, y = int(a % 10 * 22.4 + 11.2), int(a // 10 % 10 * 22.4 + 11.2)
        left, top = max(x - size // 2, 0), max(y - size // 2, 0)
        right, bottom = min(x + size // 2, 224), min(y + size // 2, 224)
        assert SRD_TABLE.box(SRD_TABLE[a], 224, 224) == Box(left, top, right, bottom), a


def test_an_srd_action_is_a_red_square() -> None:
    pixels = np.zeros((224, 224, 3), np.uint8)
    apply_action(pixels, SRD_TABLE, 175, np.random.default_rng())
    expected = np.zeros((224, 224, 3), np.uint8)
    for y in range(147, 187):
        for x in range(103, 143):
            expected[y, x] = (255, 0, 0)
    assert (pixels == expected).all()


def test_every_index_is_one_operator_and_one_cell() -> None:
    seen = [(action.op, action.cell) for action in (DEFAULT_TABLE[i] for i in range(109))]
    regional, whole = DEFAULT_TABLE.regional, DEFAULT_TABLE.whole
    cells = [(row, column) for row in range(5) for column in range(5)]
    expected = [(p.op, cell) for p in regional for cell in cells] + [(p.op, None) for p in whole]
    assert seen == [*expected, (STOP, None)]
    assert len(DEFAULT_TABLE) == len(expected) + 1


def test_stop_is_last_and_leaves_the_picture() -> None:
    stop = len(DEFAULT_TABLE) - 1
    assert DEFAULT_TABLE.stop_index == stop
    assert DEFAULT_TABLE[stop].is_stop
    assert SRD_TABLE.stop_index is None
    assert not SRD_TABLE[len(SRD_TABLE) - 1].is_stop
    pixels = np.full((8, 8, 3), 9, np.uint8)
    assert apply_action(pixels, DEFAULT_TABLE, stop, np.random.default_rng()) is None
    assert (pixels == 9).all()
    for index in (-1, stop + 1):
        with pytest.raises(IndexError):
            DEFAULT_TABLE[index]


@pytest.mark.parametrize(("width", "height"), [(224, 224), (128, 96), (7, 300), (1, 1)])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_action_lands_inside_the_frame(preset: str, width: int, height: int) -> None:
    table = PRESETS[preset]
    for index in range(0, len(table), 3):
        box = table.box(table[index], width, height)
        assert 0 <= box.left < box.right <= width
        assert 0 <= box.top < box.bottom <= height


def coverage_reference(table: ActionTable, taken: tuple[int, ...]) -> Array:
    """Counts, in each cell, which of 16 x 16 points lie in an action's square."""
    height, width = table.rows * 16, table.columns * 16
    counts = np.zeros((table.rows, table.columns))
    for y in range(height):
        for x in range(width):
            for action in (table[index] for index in taken):
                if action.perturbation is None:
                    continue
                inside = action.cell is None
                if action.cell is not None and action.perturbation.size is not None:
                    row, column = action.cell
                    side_x = max(round(action.perturbation.size * width), 1)
                    side_y = max(round(action.perturbation.size * height), 1)
                    left, top = column * 16 + 8 - side_x // 2, row * 16 + 8 - side_y // 2
                    inside = left <= x < left + side_x and top <= y < top + side_y
                if inside:
                    counts[y // 16, x // 16] += 1
                    break
    return counts / 256


@pytest.mark.parametrize(
    ("preset", "taken"),
    [
        ("default", ()),
        ("default", (108,)),
        ("default", (0,)),
        ("default", (12, 13, 62, 108)),
        ("default", (24, 103)),
        ("srd", (0, 99, 155)),
        ("srd", (455,)),
    ],
)
def test_coverage_against_counting(preset: str, taken: tuple[int, ...]) -> None:
    coverage = PRESETS[preset].coverage(taken)
    assert coverage.dtype == np.float32
    np.testing.assert_array_equal(coverage, coverage_reference(PRESETS[preset], taken))


@pytest.mark.parametrize("preset", PRESETS)
def test_json_round_trip(preset: str) -> None:
    assert (
        ActionTable.from_json(json.loads(json.dumps(PRESETS[preset].to_json()))) == PRESETS[preset]
    )


@pytest.mark.parametrize(
    "damage",
    [
        {"grid": [5]},
        {"grid": [0, 5]},
        {"grid": None},
        {"regional": [{"op": "occlude", "strength": 1.0}]},
        {"regional": [{"op": "conjure", "strength": 1.0, "size": 0.3}]},
        {"whole": [{"op": "jpeg"}]},
        {"stop": ...},
    ],
)
def test_bad_json_is_refused(damage: dict[str, Any]) -> None:
    data = {k: v for k, v in (DEFAULT_TABLE.to_json() | damage).items() if v is not ...}
    with pytest.raises(UsageError):
        ActionTable.from_json(data)


def test_actions_do_the_same_on_every_run() -> None:
    """The whole default table, one after the other: no action fails, the generator decides."""
    results = []
    for _ in range(2):
        rng = np.random.default_rng(11)
        pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
        for index in range(len(DEFAULT_TABLE)):
            apply_action(pixels, DEFAULT_TABLE, index, rng)
        results.append(pixels)
    assert (results[0] == results[1]).all()


def test_the_square_is_a_share_of_the_frame() -> None:
    table = replace(DEFAULT_TABLE, regional=(Perturbation("occlude", 1.0, size=0.25),))
    box = table.box(table[12], 640, 360)
    assert math.isclose(box.width, 160)
    assert math.isclose(box.height, 90)
    assert (box.left + box.width // 2, box.top + box.height // 2) == (320, 180)
