"""Tilings as data: out of a manifest, and out of an image processor's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from srd_edge.kernels.any_resolution import AnyResolution
from srd_edge.kernels.patches import Patches
from srd_edge.kernels.tiling import Multiples, Split, Tiling

_MOST_FRAMES: Final = 64


def read_tiling(data: Mapping[str, Any] | None) -> Tiling | None:
    """What ``to_json`` wrote.

    Raises:
        KeyError, TypeError, ValueError: for anything else.
    """
    if data is None:
        return None
    kind = data["kind"]
    if kind == "multiples":
        fewest, most = int(data["fewest_pixels"]), int(data["most_pixels"])
        if not 0 < fewest <= most:
            raise ValueError(f"a canvas of {fewest} to {most} pixels")
        return Multiples(fewest, most, _read_patches(data.get("patches")))
    if kind == "split":
        return Split(_positive(data["longest_edge"]), bool(data["splits"]))
    if kind == "any-resolution":
        resolutions = tuple((_positive(h), _positive(w)) for h, w in data["resolutions"])
        if not resolutions:
            raise ValueError("no resolutions")
        return AnyResolution(resolutions, _positive(data["most_tiles"]), _positive(data["side"]))
    raise ValueError(f"a tiling of kind {kind!r}")


def _read_patches(data: Mapping[str, Any] | None) -> Patches | None:
    if data is None:
        return None
    side, frames = _positive(data["side"]), _positive(data["frames"])
    if frames > _MOST_FRAMES:
        raise ValueError(f"{frames} frames of a picture")
    return Patches(side, frames)


def tiling_of(config: Mapping[str, Any]) -> tuple[Tiling, int] | None:
    """The tiling that a Hugging Face image processor's settings stand for, and its tile in pixels.

    None where they stand for none, or for one that needs the model's settings too.
    """
    size = config.get("size")
    if not isinstance(size, Mapping):
        return None
    if {"shortest_edge", "longest_edge"} <= set(size) and "merge_size" in config:
        tile = int(config["patch_size"]) * int(config["merge_size"])
        return Multiples(int(size["shortest_edge"]), int(size["longest_edge"])), tile
    largest = config.get("max_image_size")
    if set(size) == {"longest_edge"} and isinstance(largest, Mapping):
        splits = bool(config.get("do_image_splitting", True))
        return Split(int(size["longest_edge"]), splits), int(largest["longest_edge"])
    return None


def _positive(value: Any) -> int:
    number = int(value)
    if number < 1:
        raise ValueError(f"{value!r} where a positive number belongs")
    return number
