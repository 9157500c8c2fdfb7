"""From a picture to an encoder's input, in two steps with the defence between them.

``to_canvas`` resizes to the encoder's size and stays in uint8 RGB; the perturbations of
``srd_edge.kernels.operators`` work on that canvas; ``to_tensor`` then rescales, normalises and
transposes. An encoder that looks at pictures of any size sees what ``Preprocessing.cut`` makes of
the canvas. Together they are what a Hugging Face image processor does with its PIL backend, so a
captioner sees on the device the very numbers that it was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from srd_edge.errors import ShapeError, UsageError
from srd_edge.kernels.coefficients import Resample
from srd_edge.kernels.frames import Box, Pixels, check_pixels
from srd_edge.kernels.resize import resize
from srd_edge.kernels.scratch import Scratch
from srd_edge.kernels.tiling import Layout, Multiples, Tiling
from srd_edge.kernels.tiling_records import read_tiling

_SCRATCH: Final = Scratch()


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What an encoder wants done to a picture.

    Args:
        width, height: of the canvas, in pixels; of a tile, where the canvas follows the picture.
        resample: filter, as Pillow names it.
        mean, std: RGB, subtracted and divided by after rescaling.
        rescale: factor from 0..255 to what ``mean`` and ``std`` are in.
        shortest_edge: what a picture's shorter side is resized to before the canvas is cut out of
            its middle, in pixels; None for a picture that is stretched to the canvas.
        tiling: how the canvas follows the picture; None for one of fixed size.
    """

    width: int
    height: int
    resample: Resample
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float = 1 / 255
    shortest_edge: int | None = None
    tiling: Tiling | None = None

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std, self.rescale)
        if (
            min(self.width, self.height) < 1
            or self.resample not in get_args(Resample)
            or (len(self.mean), len(self.std)) != (3, 3)
            or not all(map(math.isfinite, numbers))
            or 0 in self.std
            or (self.shortest_edge or math.inf) < max(self.width, self.height)
            or (self.tiling is not None and (self.shortest_edge or self.width != self.height))
            or self.width % _patch_side(self.tiling)
        ):
            raise UsageError(
                expected=f"a size of 1 x 1 or more, a filter out of {', '.join(get_args(Resample))}"
                ", three means and three deviations other than 0, no canvas larger than what it is"
                " cut out of, and square tiles of whole patches",
                found=str(self),
                do="correct the preprocessing",
            )

    def to_json(self) -> dict[str, Any]:
        """A plain dict for the manifest; ``from_json`` reads it back."""
        return {
            "width": self.width,
            "height": self.height,
            "resample": self.resample,
            "mean": list(self.mean),
            "std": list(self.std),
            "rescale": self.rescale,
            "shortest_edge": self.shortest_edge,
            "tiling": None if self.tiling is None else self.tiling.to_json(),
        }

    def bounded(self, most_pixels: int) -> Preprocessing:
        """The same for canvases of at most so many pixels.

        Raises:
            UsageError: the canvas does not follow the picture.
        """
        if self.tiling is None:
            raise UsageError(
                expected="a captioner that looks at pictures of any size, for a bound on pixels",
                found=f"one whose pictures are {self.width} x {self.height}",
                do="leave --max-pixels out",
            )
        return replace(self, tiling=self.tiling.bounded(most_pixels, self.width))

    def layout(self, canvas: Pixels) -> Layout:
        """How a canvas is seen."""
        height, width = canvas.shape[:2]
        if self.tiling is None:
            return Layout(height, width)
        return self.tiling.layout(width, height, self.width)

    def cut(self, canvas: Pixels) -> Pixels:
        """What the encoder is given of a canvas: (N, h, w, 3) uint8 RGB, for ``to_tensor``."""
        if self.tiling is None:
            return canvas[None]
        return self.tiling.cut(canvas, self.width, self.resample)

    def sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        """(width, height) that such a picture is resized to, one after the other."""
        if self.tiling is None:
            return [self.resized(width, height)]
        return self.tiling.sizes(width, height, self.width)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of what a picture of that size is resized to, before it is cropped."""
        if self.tiling is not None:
            return (self.sizes(width, height) or [(width, height)])[-1]
        if self.shortest_edge is None:
            return self.width, self.height
        longest = int(self.shortest_edge * max(width, height) / min(width, height))
        return (self.shortest_edge, longest) if width <= height else (longest, self.shortest_edge)

    def cropped(self, width: int, height: int) -> tuple[int, int]:
        """Where the canvas begins in such a resized picture: pixels from the left, from the top."""
        if self.tiling is not None:
            return 0, 0
        resized_width, resized_height = self.resized(width, height)
        return (resized_width - self.width) // 2, (resized_height - self.height) // 2

    def on_picture(self, box: Box, width: int, height: int) -> Box:
        """Where a box of the canvas lies on the picture, ``width`` by ``height`` pixels."""
        resized_width, resized_height = self.resized(width, height)
        left, top = self.cropped(width, height)
        moved = Box(box.left + left, box.top + top, box.right + left, box.bottom + top)
        return moved.scaled(width / resized_width, height / resized_height)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Read what ``to_json`` wrote; a missing field or a wrong type is a UsageError."""
        try:
            return cls(
                width=int(data["width"]),
                height=int(data["height"]),
                resample=data["resample"],
                mean=triple(data["mean"]),
                std=triple(data["std"]),
                rescale=float(data["rescale"]),
                shortest_edge=None if data["shortest_edge"] is None else int(data["shortest_edge"]),
                tiling=read_tiling(data["tiling"]),
            )
        except UsageError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                expected="preprocessing with width, height, resample, mean, std, rescale,"
                " shortest_edge and tiling",
                found=f"{type(error).__name__}: {error}",
                do="write it with Preprocessing.to_json",
            ) from error


def to_canvas(pixels: Pixels, spec: Preprocessing) -> Pixels:
    """Resize as Pillow's ``Image.resize((width, height), resample)`` does, bit for bit; then crop.

    A canvas of fixed size is (spec.height, spec.width, 3); otherwise it follows the picture.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        spec: the sizes and the filter.

    Returns:
        (height, width, 3) uint8 RGB, always a new contiguous array.

    Raises:
        ShapeError: for anything but (H, W, 3) uint8.
    """
    check_pixels(pixels)
    height, width = pixels.shape[:2]
    resized = pixels
    for size in spec.sizes(width, height):
        resized = resize(resized, *size, spec.resample)
    if spec.tiling is not None:
        return resized.copy() if resized is pixels else np.ascontiguousarray(resized)
    left, top = spec.cropped(width, height)
    return np.ascontiguousarray(resized[top : top + spec.height, left : left + spec.width])


def to_tensor(
    canvas_or_batch: Pixels, spec: Preprocessing, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Rescale, normalise and transpose.

    Within 2e-6 of transformers' own result for the same canvas (transformers rescales and
    normalises one after the other, here it is one multiplication and one addition).

    Args:
        canvas_or_batch: (H, W, 3) or (B, H, W, 3) uint8 RGB.
        spec: rescale, mean and std. The size is not looked at.
        out: (B, 3, H, W) float32 to write into; a new array without it.

    Returns:
        (B, 3, H, W) float32 RGB; ``out`` if it was given.

    Raises:
        ShapeError: for pixels or an ``out`` of another shape or dtype.
    """
    batch = canvas_or_batch[None] if canvas_or_batch.ndim == 3 else canvas_or_batch
    if batch.ndim != 4 or batch.shape[3] != 3 or batch.dtype != np.uint8:
        raise ShapeError(
            expected="pixels of shape (H, W, 3) or (B, H, W, 3), dtype uint8, colour order RGB",
            found=f"shape {canvas_or_batch.shape}, dtype {canvas_or_batch.dtype}",
            do="make the canvas with srd_edge.kernels.preprocess.to_canvas",
        )
    batches, height, width, _ = batch.shape
    shape = (batches, 3, height, width)
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32:
        raise ShapeError(
            expected=f"an out of shape {shape}, dtype float32",
            found=f"shape {out.shape}, dtype {out.dtype}",
            do="allocate out for this batch and canvas",
        )
    interleaved = batch.reshape(batches * height, width, 3)
    plane = _SCRATCH.array("plane", (batches * height, width), np.uint8)
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True)):
        cv2.extractChannel(interleaved, channel, dst=plane)
        made = out[:, channel]
        np.copyto(made, plane.reshape(batches, height, width))
        made *= np.float32(spec.rescale / std)
        made += np.float32(-mean / std)
    return out


def _patch_side(tiling: Tiling | None) -> int:
    """In pixels; 1 where the encoder is given no patches."""
    patches = tiling.patches if isinstance(tiling, Multiples) else None
    return 1 if patches is None else patches.side


def triple(values: Any) -> tuple[float, float, float]:
    """Three numbers out of three, or out of one that stands for all channels."""
    red, green, blue = (values,) * 3 if isinstance(values, (int, float)) else values
    return float(red), float(green), float(blue)
