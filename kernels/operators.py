# ruff: noqa: ARG001
# (Every operator has the same signature, whether or not it needs the colour and the generator.)
"""The perturbations: what may be laid over a suspect picture so that a trigger loses its form.

All have one signature, ``operator(pixels, box, strength, colour, rng)``, and change ``pixels``,
(H, W, 3) uint8 RGB, in place inside ``box`` and nowhere else. ``pixels`` may be any view, of any
size from 1 x 1; what of ``box`` lies outside of it is ignored. ``strength`` has a unit of its own
in every operator; lengths of blur, median and pixelate are pixels *of a frame 128 wide* and are
scaled by the frame's width, so that an action does the same to every size. ``colour`` is RGB and
falls back to ImageNet's mean grey. A strength or a colour out of range is a UsageError.

Blur, median and inpaint read the pixels round the box, so that the box's rim gets what it would
get if the whole frame were filtered; the others see nothing but the box. Those that treat every
pixel by itself work in bands of rows that a processor's cache holds; what the others need on the
way is kept for the next frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Box, Pixels
from srd_edge.kernels.noise_levels import noise_levels
from srd_edge.kernels.regions import bands, fill, inside, mix, rewritten, surroundings
from srd_edge.kernels.scratch import Scratch
from srd_edge.kernels.wide_blur import wide_blur

Colour: TypeAlias = tuple[int, int, int]
"""RGB, each 0..255."""

Operator: TypeAlias = Callable[[Pixels, Box, float, Colour | None, np.random.Generator], None]

_GREY: Final[Colour] = (124, 116, 104)
_REFERENCE_WIDTH: Final = 128
_WIDE: Final = 16
"""From this reach of a kernel on, in pixels, OpenCV's blur is the slower one."""
_SCRATCH: Final = Scratch()


def occlude(
    pixels: Pixels, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> None:
    """Fill the box with ``colour``. The strength is ignored: the fill is opaque."""
    fill(inside(pixels, box), _paint(colour))


def colour_mask(
    pixels: Pixels, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> None:
    """Blend towards ``colour`` with opacity ``strength``, 0..1."""
    _check("colour_mask", strength, 0.0, 1.0, "of opacity")
    mix(inside(pixels, box), _paint(colour), strength)


def gaussian_blur(
    pixels: Pixels, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> None:
    """Blur with sigma ``strength``, 0..32 px of a frame 128 wide.

    The kernel reaches 3 sigma; beyond the frame it is mirrored (edge pixel not repeated).
    """
    _check("gaussian_blur", strength, 0.0, 32.0, "px of a frame 128 wide")
    sigma = strength * pixels.shape[1] / _REFERENCE_WIDTH
    reach = round(3.0 * sigma)
    region = inside(pixels, box)
    if region.size and reach:
        crop, within = surroundings(pixels, box, reach)
        if _WIDE <= reach < min(crop.shape[:2]):
            region[...] = wide_blur(crop, within, reach, sigma)
        else:
            blurred = _SCRATCH.array("picture", crop.shape, np.uint8)
            size = 2 * reach + 1, 2 * reach + 1
            cv2.GaussianBlur(crop, size, sigma, dst=blurred, borderType=cv2.BORDER_REFLECT_101)
            region[...] = blurred[within]


def median(
    pixels: Pixels, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> None:
    """Median of a square of side ``strength``, 1..31 px of a frame 128 wide.

    Each channel by itself. The scaled side is rounded to the nearest odd number of pixels; beyond
    the frame its edge pixels are repeated.
    """
    _check("median", strength, 1.0, 31.0, "px of a frame 128 wide")
    reach = round((strength * pixels.shape[1] / _REFERENCE_WIDTH - 1.0) / 2.0)
    region = inside(pixels, box)
    if region.size and reach > 0:
        crop, within = surroundings(pixels, box, reach)
        medians = _SCRATCH.array("picture", crop.shape, np.uint8)
        cv2.medianBlur(crop, 2 * reach + 1, dst=medians)
        region[...] = medians[within]


def pixelate(
    pixels: Pixels, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> None:
    """Mean colour of blocks of side ``strength``, 1..128 px of a frame 128 wide.

    Blocks are counted from the box's top left corner; the last ones average what is left.
    """
    _check("pixelate", strength, 1.0, 128.0, "px of a frame 128 wide")
    side = max(round(strength * pixels.shape[1] / _REFERENCE_WIDTH), 1)
    region = inside(pixels, box)
    if not region.size or side == 1:
        return
    rows, columns = (np.arange(0, length, side) for length in region.shape[:2])
    strips = [region[top : top + side] for top in rows]
    sums = np.concatenate([cv2.reduce(s, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S) for s in strips])
    sums = np.add.reduceat(sums, columns, axis=1, dtype=np.int64)
    heights = np.array([len(strip) for strip in strips])
    widths = np.diff(columns, append=region.shape[1])
    areas = (heights[:, None] * widths)[:, :, None]
    means = ((sums + areas // 2) // areas).astype(np.uint8).repeat(widths, axis=1)
    for strip, row in zip(strips, means, strict=True):
        strip[...] = row


def inpaint(
    pixels: Pixels, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> None:
    """Fill the box from its surroundings (Telea) within radius ``strength``, 1..100 px.

    A box as large as the frame leaves nothing to fill from: it gets its own mean colour.

    Source: A. Telea, An Image Inpainting Technique Based on the Fast Marching Method, 2004.
    """
    _check("inpaint", strength, 1.0, 100.0, "px")
    region = inside(pixels, box)
    if not region.size:
        return
    if region.shape == pixels.shape:
        region[...] = np.rint(region.mean(axis=(0, 1)))
        return
    crop, within = surroundings(pixels, box, round(strength) + 2)
    mask = np.zeros(crop.shape[:2], np.uint8)
    mask[within] = 255
    region[...] = cv2.inpaint(crop, mask, strength, cv2.INPAINT_TELEA)[within]


def noise(
    pixels: Pixels, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> None:
    """Add Gaussian noise of sigma ``strength``, 0..255 grey levels, to each channel by itself.

    Rounded to whole levels, as pixels are, and drawn from ``rng`` in bands of rows
    (``srd_edge.kernels.noise_levels``). A strength of 0 draws nothing.
    """
    _check("noise", strength, 0.0, 255.0, "grey levels")
    if strength > 0.0:
        for band, noisy in rewritten(inside(pixels, box), np.int16):
            added = noise_levels(band.shape, strength, rng)
            cv2.add(band, added, dst=noisy, dtype=cv2.CV_8U)


def shrink_and_pad(
    pixels: Pixels, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> None:
    """Shrink the box's contents to the share ``strength``, 0.01..1, of its sides, centred.

    The contents are area-averaged; the rest of the box is filled with ``colour``.
    """
    _check("shrink_and_pad", strength, 0.01, 1.0, "of the side")
    paint = _paint(colour)
    region = inside(pixels, box)
    if not region.size:
        return
    height, width = (max(round(strength * side), 1) for side in region.shape[:2])
    small = _SCRATCH.array("picture", (height, width, 3), np.uint8)
    cv2.resize(region, (width, height), dst=small, interpolation=cv2.INTER_AREA)
    top, left = (region.shape[0] - height) // 2, (region.shape[1] - width) // 2
    fill(region, paint)
    region[top : top + height, left : left + width] = small


def jpeg(
    pixels: Pixels, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> None:
    """Compress and decompress at quality ``strength``, 1..100, with chroma halved (4:2:0)."""
    _check("jpeg", strength, 1.0, 100.0, "of quality")
    region = inside(pixels, box)
    if not region.size:
        return
    picture = _SCRATCH.array("picture", region.shape, np.uint8)
    cv2.cvtColor(region, cv2.COLOR_RGB2BGR, dst=picture)
    _, encoded = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, round(strength)))
    region[...] = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB), np.uint8)


def bit_depth(
    pixels: Pixels, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> None:
    """Keep ``strength`` bits a channel, 1..8 (rounded).

    Every value becomes the middle of its step, so that the mean brightness stays where it is.
    """
    _check("bit_depth", strength, 1.0, 8.0, "bits")
    step = 1 << (8 - round(strength))
    kept, middle = np.uint8(256 - step), np.uint8(step >> 1)
    for band in bands(inside(pixels, box)):
        band &= kept
        band |= middle


def greyscale(
    pixels: Pixels, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> None:
    """Blend towards the luma (BT.601: 0.299 R + 0.587 G + 0.114 B) by ``strength``, 0..1."""
    _check("greyscale", strength, 0.0, 1.0, "of opacity")
    for band, blended in rewritten(inside(pixels, box)):
        luma = cv2.cvtColor(band, cv2.COLOR_RGB2GRAY)
        if strength == 1.0:
            cv2.cvtColor(luma, cv2.COLOR_GRAY2RGB, dst=blended)
        else:
            grey = np.asarray(cv2.cvtColor(luma, cv2.COLOR_GRAY2RGB))
            cv2.addWeighted(band, 1.0 - strength, grey, strength, 0.0, dst=blended)


def hue_shift(
    pixels: Pixels, box: Box, strength: float, colour: Colour | None, rng: np.random.Generator
) -> None:
    """Turn the hue by ``strength``, -360..360 degrees of HSV; greys stay as they are.

    In float32: OpenCV's 8-bit HSV has steps of 2 degrees and would not give back a turn of 0.
    """
    _check("hue_shift", strength, -360.0, 360.0, "degrees")
    turn = np.float32(strength)
    back = np.float32(360.0 if strength < 0.0 else -360.0)
    for band, turned in rewritten(inside(pixels, box), np.float32):
        colours = _SCRATCH.array("floats", band.shape, np.float32)
        hue, other = _SCRATCH.array("hues", (2, *band.shape[:2]), np.float32)
        np.copyto(colours, band)
        cv2.cvtColor(colours, cv2.COLOR_RGB2HSV, dst=colours)
        cv2.extractChannel(colours, 0, dst=hue)
        hue += turn
        np.add(hue, back, out=other)
        _take_the_smaller_that_is_not_negative(hue, other)
        cv2.insertChannel(hue, colours, 0)
        cv2.cvtColor(colours, cv2.COLOR_HSV2RGB, dst=colours)
        cv2.convertScaleAbs(colours, dst=turned)  # rounds halves to even, cuts at 255


OPERATORS: Final[Mapping[str, Operator]] = {
    "occlude": occlude,
    "colour_mask": colour_mask,
    "gaussian_blur": gaussian_blur,
    "median": median,
    "pixelate": pixelate,
    "inpaint": inpaint,
    "noise": noise,
    "shrink_and_pad": shrink_and_pad,
    "jpeg": jpeg,
    "bit_depth": bit_depth,
    "greyscale": greyscale,
    "hue_shift": hue_shift,
}


def _take_the_smaller_that_is_not_negative(
    hue: NDArray[np.float32], other: NDArray[np.float32]
) -> None:
    """Into ``hue``. Read as whole numbers, floats keep their order, and negative ones come last."""
    bits = hue.view(np.uint32)
    np.minimum(bits, other.view(np.uint32), out=bits)


def _paint(colour: Colour | None) -> NDArray[np.uint8]:
    paint = _GREY if colour is None else colour
    if len(paint) != 3 or not all(0 <= channel <= 255 for channel in paint):
        raise UsageError(
            expected="a colour of three channels, RGB, each 0 to 255",
            found=str(paint),
            do="correct the colour in the action table",
        )
    return np.array(paint, np.uint8)


def _check(operator: str, strength: float, low: float, high: float, unit: str) -> None:
    if not low <= strength <= high:
        raise UsageError(
            expected=f"a strength of {low:g} to {high:g} {unit} for {operator}",
            found=str(strength),
            do="correct the strength in the action table",
        )
