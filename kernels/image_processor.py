"""A Hugging Face image processor's settings, read as ``Preprocessing``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from srd_edge.errors import UsageError
from srd_edge.kernels.coefficients import Resample
from srd_edge.kernels.preprocess import Preprocessing, triple
from srd_edge.kernels.tiling_records import tiling_of

PIL_FILTERS: Final[Mapping[int, Resample]] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
}
"""Pillow's numbers of the filters, as image processors write them."""
_HONOURED_STEPS: Final = {
    *("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"),
}
_TILING_STEPS: Final = {"do_image_splitting", "do_pad"}
"""Padding only makes a batch of pictures with different numbers of tiles."""


def read_image_processor(config: Mapping[str, Any]) -> Preprocessing:
    """Read a Hugging Face image processor's settings.

    Args:
        config: the contents of ``preprocessor_config.json``, or ``processor.to_dict()`` where that
            file leaves out the class's defaults.

    Raises:
        UsageError: for a step that ``to_canvas``, ``cut`` and ``to_tensor`` do not take (padding to
            a square, a shortest edge without a crop) and for missing or unusable values.
    """
    tiled = tiling_of(config)
    honoured = _HONOURED_STEPS | (_TILING_STEPS if tiled else set())
    extra = sorted(
        key
        for key, value in config.items()
        if (key.startswith("do_") and value and key not in honoured)
        or (key == "rescale_offset" and value)
    )
    if extra or config.get("do_resize") is False:
        raise UsageError(
            expected="an image processor that resizes, crops, rescales and normalises only",
            found=f"{', '.join(extra)} switched on" if extra else "do_resize switched off",
            do="use a captioner whose pictures are resized to a fixed size",
        )
    try:
        if tiled is None:
            height, width, shortest_edge = _sizes(config)
        else:
            height, width, shortest_edge = tiled[1], tiled[1], None
        normalises = config.get("do_normalize", True)
        return Preprocessing(
            width=width,
            height=height,
            resample=PIL_FILTERS[int(config["resample"])],
            mean=triple(config["image_mean"]) if normalises else (0.0, 0.0, 0.0),
            std=triple(config["image_std"]) if normalises else (1.0, 1.0, 1.0),
            rescale=(
                float(config.get("rescale_factor", 1 / 255))
                if config.get("do_rescale", True)
                else 1.0
            ),
            shortest_edge=shortest_edge,
            tiling=None if tiled is None else tiled[0],
        )
    except UsageError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            expected="size, resample (a PIL code, 0 to 4), image_mean and image_std",
            found=f"{type(error).__name__}: {error}",
            do="pass the image processor's to_dict(), which has its defaults filled in",
        ) from error


def _sizes(config: Mapping[str, Any]) -> tuple[int, int, int | None]:
    """Height and width of the canvas, and the shortest edge of what it is cut out of."""
    size = config["size"]
    if not config.get("do_center_crop"):
        return *_fixed_size(size), None
    height, width = _fixed_size(config["crop_size"])
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        return height, width, int(size["shortest_edge"])
    if _fixed_size(size) == (height, width):
        return height, width, None
    raise UsageError(
        expected="a picture that is resized by its shortest edge before it is cropped",
        found=f"size {size!r}, crop {height} x {width}",
        do="use a captioner with another image processor",
    )


def _fixed_size(size: Any) -> tuple[int, int]:
    """(height, width) out of an image processor's ``size``."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        return int(size["height"]), int(size["width"])
    raise UsageError(
        expected="a size of height and width, or one number for both",
        found=f"size {size!r}",
        do="use a captioner whose pictures are resized to a fixed size",
    )
