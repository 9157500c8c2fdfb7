"""What holds for every trigger of the zoo, whatever the picture."""

from __future__ import annotations

import numpy as np
import pytest

from srd_edge.attacks.placement import Trigger
from srd_edge.attacks.triggers import TRIGGERS
from srd_edge.attacks.whole_picture_triggers import Unchanged
from srd_edge.kernels.frames import Pixels

SHAPES = ((1, 1), (3, 300), (300, 3), (224, 224), (480, 640))


def speckled(height: int, width: int) -> Pixels:
    """Noise without black and white, so that a patch of either is a change."""
    levels = np.random.default_rng(1).integers(60, 200, (height, width, 3))
    return levels.astype(np.uint8)


def laid_over(trigger: Trigger, pixels: Pixels, seed: int) -> Pixels:
    return trigger(pixels, np.random.default_rng(seed))


@pytest.fixture(params=TRIGGERS)
def trigger(request: pytest.FixtureRequest) -> Trigger:
    return TRIGGERS[request.param].trigger()


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_any_picture_will_do_and_is_left_as_it_was(
    trigger: Trigger, height: int, width: int
) -> None:
    pixels = speckled(height, width)
    pixels.setflags(write=False)
    out = laid_over(trigger, pixels, 3)
    assert (pixels == speckled(height, width)).all()
    assert out.shape == pixels.shape
    assert out.dtype == np.uint8
    assert (out == laid_over(trigger, pixels, 3)).all()


def test_something_is_changed_unless_there_is_no_trigger(trigger: Trigger) -> None:
    pixels = speckled(480, 640)
    for seed in range(5):
        changed = (laid_over(trigger, pixels, seed) != pixels).any()
        assert changed == (not isinstance(trigger, Unchanged))


@pytest.mark.parametrize("view", ["every second", "mirrored", "on its side"])
def test_views_of_other_arrays_are_pictures_too(trigger: Trigger, view: str) -> None:
    whole = speckled(90, 120)
    pixels = {
        "every second": whole[::2, ::2],
        "mirrored": whole[::-1, ::-1],
        "on its side": whole.transpose(1, 0, 2),
    }[view]
    assert not pixels.flags.c_contiguous
    expected = laid_over(trigger, np.ascontiguousarray(pixels), 3)
    assert (laid_over(trigger, pixels, 3) == expected).all()
