"""Captioner families, one file each, by transformers' model type."""

from __future__ import annotations

from typing import Final

from srd_edge.errors import UsageError
from srd_edge.export.families.blip import Blip
from srd_edge.export.families.blip2 import Blip2
from srd_edge.export.families.family import Family
from srd_edge.export.families.florence2 import Florence2
from srd_edge.export.families.git import Git
from srd_edge.export.families.instructblip import InstructBlip
from srd_edge.export.families.llava import Llava
from srd_edge.export.families.llava_onevision import LlavaOnevision
from srd_edge.export.families.paligemma import PaliGemma
from srd_edge.export.families.qwen_vl import QwenVl
from srd_edge.export.families.smolvlm import SmolVlm
from srd_edge.export.families.vision_encoder_decoder import VisionEncoderDecoder
from srd_edge.export.nearest import nearest_family

FAMILIES: Final[tuple[Family, ...]] = (
    VisionEncoderDecoder(),
    Blip(),
    Git(),
    Blip2(),
    InstructBlip(),
    Llava(),
    LlavaOnevision(),
    SmolVlm(),
    QwenVl(),
    PaliGemma(),
    Florence2(),
)


def family_of(model_type: str, name: str) -> Family:
    """The family that exports models of ``model_type``.

    Raises:
        UsageError: none does; ``name`` is what was asked for.
    """
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(sorted(kind for family in FAMILIES for kind in family.model_types))
    nearest = nearest_family(model_type)
    raise UsageError(
        expected=f"a captioner of a known type: {known}",
        found=f"{name} of type {model_type}",
        do=f"choose another{f' ({nearest} is the nearest)' if nearest else ''}, or add a family as"
        " docs/families.md says",
    )
