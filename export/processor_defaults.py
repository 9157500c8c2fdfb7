"""Image processors by their class's name, for settings that were saved without its defaults.

Needs neither PyTorch nor transformers. Classes whose defaults differ from version to version
(BEiT's) are not among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from srd_edge.errors import UsageError
from srd_edge.kernels.image_processor import read_image_processor
from srd_edge.kernels.patches import Patches
from srd_edge.kernels.preprocess import Preprocessing
from srd_edge.kernels.tiling import Multiples

_LANCZOS, _BILINEAR, _BICUBIC = 1, 2, 3
_HALF: Final = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_SQUARE: Final[dict[str, Any]] = {"size": {"height": 224, "width": 224}}
_CUT_OUT: Final[dict[str, Any]] = {
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "resample": _BICUBIC,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_IN_TILES: Final[dict[str, Any]] = _HALF | {
    "size": {"longest_edge": 4 * 364},
    "max_image_size": {"longest_edge": 364},
    "resample": _LANCZOS,
    "do_image_splitting": True,
    "do_pad": True,
}
DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "ViT": _SQUARE | _HALF | {"resample": _BILINEAR},
    "DeiT": _HALF
    | {
        "size": {"height": 256, "width": 256},
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "resample": _BICUBIC,
    },
    "Siglip": _SQUARE | _HALF | {"resample": _BICUBIC},
    "CLIP": _CUT_OUT,
    "Idefics3": _IN_TILES,
    "SmolVLM": _IN_TILES,
    "Qwen2VL": {
        "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280},
        "resample": _BICUBIC,
        "image_mean": _CUT_OUT["image_mean"],
        "image_std": _CUT_OUT["image_std"],
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
    },
    "Bit": _CUT_OUT,
}
"""What transformers' processor of that name does where its settings say nothing. Swin takes ViT's,
DINOv2 Bit's."""
_CLASS: Final = re.compile(r"(\w+?)(ImageProcessor(Fast|Pil)?|FeatureExtractor)")


def read_preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    """What a ``preprocessor_config.json`` asks for, for encoders as others export them.

    Raises:
        UsageError: a class that is not known here, or a step that the runtime does not take.
    """
    name = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
    matched = _CLASS.fullmatch(name)
    defaults = DEFAULTS.get(matched[1]) if matched else None
    if defaults is None:
        raise UsageError(
            expected=f"an image processor of {', '.join(DEFAULTS)} in preprocessor_config.json",
            found=name[:80],
            do="export the captioner from its PyTorch weights",
        )
    settings = {**defaults, **{name: v for name, v in config.items() if v is not None}}
    # A number was the shorter side's where a picture is cut out, and both sides' elsewhere.
    if isinstance(settings["size"], int) and "shortest_edge" in defaults["size"]:
        settings["size"] = {"shortest_edge": settings["size"]}
    for name, bound in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        if name in settings:
            settings["size"] = {**settings["size"], bound: settings[name]}
    found = read_image_processor(settings)
    if isinstance(found.tiling, Multiples):
        patches = Patches(int(settings["patch_size"]), int(settings["temporal_patch_size"]))
        return replace(found, tiling=replace(found.tiling, patches=patches))
    return found
