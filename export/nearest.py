"""Captioners that cannot be exported, and the family that each is most like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NEAREST: Final[Mapping[str, str]] = {
    "openflamingo": "llava",
    "open_flamingo": "llava",
    "flamingo": "llava",
    "moondream": "llava",
    "moondream1": "llava",
    "llava_next": "llava-onevision",
    "vipllava": "llava",
    "idefics2": "smolvlm",
    "qwen3_vl_moe": "qwen-vl",
    "internvl": "llava-onevision",
    "gemma3": "paligemma",
    "kosmos_2": "git",
    "pix2struct": "vision-encoder-decoder",
    "instructblipvideo": "instructblip",
}
"""By model type as its configuration has it: what is not exported, and the family most like it."""


def nearest_family(model_type: str) -> str | None:
    """The name of the family that is most like models of a type that none exports."""
    return NEAREST.get(model_type.lower().replace("-", "_"))
