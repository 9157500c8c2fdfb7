"""Views of one picture that show the same scene: what a captioner says of all of them holds."""

from __future__ import annotations

from typing import Final

import numpy as np

from srd_edge.kernels.coefficients import Resample
from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.resize import resize

VIEWS: Final = 4
_MARGIN: Final = 0.08
"""What is cut off on each side, as a share of it."""


def views(canvas: Pixels, resample: Resample) -> Pixels:
    """The canvas, its middle drawn out to the same size, and both mirrored.

    Args:
        canvas: (height, width, 3) uint8 RGB.
        resample: the filter for the middle.

    Returns:
        (VIEWS, height, width, 3) uint8 RGB, the canvas first.
    """
    height, width = canvas.shape[:2]
    down, across = round(_MARGIN * height), round(_MARGIN * width)
    middle = canvas[down : height - down, across : width - across]
    seen = [canvas, resize(np.ascontiguousarray(middle), width, height, resample)]
    return np.stack([*seen, *(view[:, ::-1] for view in seen)])
