"""What an encoder graph is fed of a canvas, by the inputs that it has.

Our own take ``pixel_values`` (N, 3, h, w) of all that is seen of a canvas, and ``gather_index`` and
``gather_weight`` where features are to be chosen. Those that others exported may take tiles as
pictures of one row, (1, N, 3, h, w), beside a mask of pixels that are none of padding, or patches
(P, values) beside how many there are in a column and a row.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.any_resolution import AnyResolution
from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.preprocess import Preprocessing, to_tensor
from srd_edge.kernels.tiling import Multiples

PIXELS: Final = "pixel_values"
PIXEL_MASK: Final = "pixel_attention_mask"
GRIDS: Final = ("image_grid_thw", "grid_thw")
"""The same under the names that it has had."""
SIZES: Final = frozenset({PIXEL_MASK, *GRIDS})
"""Inputs that tell no more than sizes."""


def encoder_inputs(
    canvas: Pixels,
    spec: Preprocessing,
    takes: Collection[str] = (PIXELS,),
    out: NDArray[np.float32] | None = None,
) -> dict[str, NDArray[Any]]:
    """What the encoder graph takes of one (height, width, 3) uint8 RGB canvas.

    Args:
        canvas: the picture.
        spec: what the encoder wants done to it.
        takes: names of the graph's inputs.
        out: for the pixels of a canvas of fixed size; a new array without it.
    """
    if spec.tiling is None:
        return {PIXELS: to_tensor(canvas, spec, out=out)}
    pixels = to_tensor(spec.cut(canvas), spec)
    if PIXEL_MASK in takes:
        seen = np.ones((1, len(pixels), *pixels.shape[2:]), np.bool_)
        return {PIXELS: pixels[None], PIXEL_MASK: seen}
    if isinstance(spec.tiling, Multiples) and spec.tiling.patches is not None:
        patches, layout = spec.tiling.patches, spec.layout(canvas)
        grid = patches.grid(layout.rows, layout.columns, spec.width)
        named = {name: grid for name in GRIDS if name in takes}
        return {PIXELS: patches.cut(pixels[0], spec.width), **named}
    inputs: dict[str, NDArray[Any]] = {PIXELS: pixels}
    if isinstance(spec.tiling, AnyResolution):
        index, weight = spec.tiling.gathered(spec.layout(canvas))
        inputs |= {"gather_index": index, "gather_weight": weight}
    return inputs
