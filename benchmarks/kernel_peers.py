"""Pillow's and albumentations' operators that are most like the kernels.

Arrays in and arrays out, as a caller of ours has them. Where a library has nothing alike, there is
no entry. "Like" is not "equal": Pillow blurs by three box filters, albumentations turns hues by
whole steps of two degrees and shrinks without areas that come out even.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version

import albumentations
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter, ImageOps

Array: TypeAlias = NDArray[Any]
Peer: TypeAlias = Callable[[Array, float], Any]
GREY: Final = (124, 116, 104)


def _pillow(work: Callable[[Any, float], Any]) -> Peer:
    return lambda region, strength: np.asarray(work(Image.fromarray(region), strength))


def _odd(length: float) -> int:
    return 2 * round((length - 1) / 2) + 1


def _occluded(image: Any, _strength: float) -> Any:
    image.paste(GREY, (0, 0, *image.size))
    return image


def _pixelated(image: Any, side: float) -> Any:
    small = image.reduce(round(side))
    return small.resize(image.size, Image.Resampling.NEAREST)


def _noisy(image: Any, sigma: float) -> Any:
    noise = Image.merge("RGB", [Image.effect_noise(image.size, sigma) for _ in range(3)])
    return ImageChops.add(image, noise, 1, -128)


def _shrunk(image: Any, share: float) -> Any:
    width, height = (round(share * side) for side in image.size)
    room = Image.new("RGB", image.size, GREY)
    small = image.resize((width, height), Image.Resampling.BOX)
    room.paste(small, ((image.width - width) // 2, (image.height - height) // 2))
    return room


def _compressed(image: Any, quality: float) -> Any:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=round(quality), subsampling="4:2:0")
    return Image.open(file)


def _turned(image: Any, degrees: float) -> Any:
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([round(level + degrees * 256 / 360) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


PILLOW: Final[Mapping[str, Peer]] = {
    "occlude": _pillow(_occluded),
    "colour_mask": _pillow(lambda i, s: Image.blend(i, Image.new("RGB", i.size, GREY), s)),
    "gaussian_blur": _pillow(lambda image, s: image.filter(ImageFilter.GaussianBlur(s))),
    "median": _pillow(lambda image, side: image.filter(ImageFilter.MedianFilter(_odd(side)))),
    "pixelate": _pillow(_pixelated),
    "noise": _pillow(_noisy),
    "shrink_and_pad": _pillow(_shrunk),
    "jpeg": _pillow(_compressed),
    "bit_depth": _pillow(lambda image, bits: ImageOps.posterize(image, round(bits))),
    "greyscale": _pillow(lambda image, _: image.convert("L").convert("RGB")),
    "hue_shift": _pillow(_turned),
}


def _albumentations(made: Callable[[Array, float], Any]) -> Peer:
    """A transform is made once for each size and strength, and called often."""
    kept: dict[tuple[Any, ...], Any] = {}

    def peer(region: Array, strength: float) -> Any:
        key = (*region.shape, strength)
        if key not in kept:
            kept[key] = made(region, strength)
        return kept[key](image=region)["image"]

    return peer


def _hole(fill: Any) -> Callable[[Array, float], Any]:
    """One hole of the built-in cells' size, somewhere in a frame."""

    def made(frame: Array, _: float) -> Any:
        height, width = (round(0.3 * side) for side in frame.shape[:2])
        return albumentations.CoarseDropout((1, 1), (height, height), (width, width), fill, p=1)

    return made


def _shrunk_too(region: Array, share: float) -> Any:
    height, width = region.shape[:2]
    size = round(share * height), round(share * width)
    return albumentations.Compose(
        [
            albumentations.Resize(*size, interpolation=cv2.INTER_AREA),
            albumentations.PadIfNeeded(height, width, border_mode=0, fill=GREY),
        ]
    )


def _downscaled(_region: Array, side: float) -> Any:
    ways = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_NEAREST}
    return albumentations.Downscale((1 / side, 1 / side), ways, p=1)


ALBUMENTATIONS: Final[Mapping[str, Peer]] = {
    "occlude": _albumentations(_hole(GREY)),
    "gaussian_blur": _albumentations(
        lambda _, s: albumentations.GaussianBlur((2 * round(3 * s) + 1,) * 2, (s, s), p=1)
    ),
    "median": _albumentations(lambda _, side: albumentations.MedianBlur((_odd(side),) * 2, p=1)),
    "pixelate": _albumentations(_downscaled),
    "inpaint": _albumentations(_hole("inpaint_telea")),
    "noise": _albumentations(lambda _, s: albumentations.GaussNoise((s / 255, s / 255), p=1)),
    "shrink_and_pad": _albumentations(_shrunk_too),
    "jpeg": _albumentations(
        lambda _, q: albumentations.ImageCompression("jpeg", (round(q), round(q)), p=1)
    ),
    "bit_depth": _albumentations(lambda _, bits: albumentations.Posterize(round(bits), p=1)),
    "greyscale": _albumentations(lambda _, __: albumentations.ToGray(p=1)),
    "hue_shift": _albumentations(
        lambda _, d: albumentations.HueSaturationValue((d / 2,) * 2, (0, 0), (0, 0), p=1)
    ),
}
"""``occlude`` and ``inpaint`` take a whole frame and choose the place themselves."""
OF_A_FRAME: Final = frozenset({"occlude", "inpaint"})


def resized(pixels: Array, width: int, height: int, resample: str) -> Array:
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    return np.asarray(Image.fromarray(pixels).resize((width, height), filters[resample]))


def area_resize(width: int, height: int, normalised: Mapping[str, Any] | None = None) -> Any:
    """albumentations' own way to shrink without aliasing; then its normalisation, if any."""
    steps = [albumentations.Resize(height, width, interpolation=cv2.INTER_AREA)]
    if normalised is not None:
        steps.append(albumentations.Normalize(**normalised))
    transform = albumentations.Compose(steps)
    return lambda pixels: transform(image=pixels)["image"]


def normalise(**settings: Any) -> Any:
    transform = albumentations.Normalize(**settings)
    return lambda canvas: transform(image=canvas)["image"]


def largest_difference(a: Array, b: Array) -> float:
    difference = ImageChops.difference(Image.fromarray(a), Image.fromarray(b)).reduce(8)
    return max(high for _, high in difference.getextrema())
