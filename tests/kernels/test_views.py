"""Views keep what is in the middle, at the canvas's size."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from srd_edge.kernels.views import VIEWS, views


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (32, 32), (160, 224)])
def test_the_canvas_its_middle_and_both_mirrored(height: int, width: int) -> None:
    canvas = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    kept = canvas.copy()
    seen = views(canvas, "bilinear")
    down, across = round(0.08 * height), round(0.08 * width)
    box = (across, down, width - across, height - down)
    middle = Image.fromarray(canvas).crop(box).resize((width, height), Image.Resampling.BILINEAR)
    assert seen.shape == (VIEWS, height, width, 3)
    assert seen.dtype == np.uint8
    assert seen.flags.c_contiguous
    assert np.array_equal(seen[0], canvas)
    assert np.array_equal(seen[1], np.asarray(middle))
    assert np.array_equal(seen[2:], seen[:2, :, ::-1])
    assert np.array_equal(canvas, kept)
