"""Small captioners with random weights, one of each family's real architecture."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.export.small_cross_attention import blip, blip2_t5, florence2, instructblip_t5, vit_gpt2
from tests.export.small_parts import word_tokenizer
from tests.export.small_prefix import (
    blip2,
    git,
    idefics3,
    instructblip,
    llava,
    llava_onevision,
    paligemma,
    paligemma2,
    qwen2_5_vl,
    qwen2_vl,
    qwen3_vl,
    smolvlm,
)

MAKERS: dict[str, Callable[[], tuple[Any, Any, Any]]] = {
    "vision-encoder-decoder": vit_gpt2,
    "blip": blip,
    "git": git,
    "llava": llava,
    "llava-onevision": llava_onevision,
    "smolvlm": smolvlm,
    "idefics3": idefics3,
    "qwen2-vl": qwen2_vl,
    "qwen2.5-vl": qwen2_5_vl,
    "qwen3-vl": qwen3_vl,
    "blip-2": blip2,
    "instructblip": instructblip,
    "blip-2-t5": blip2_t5,
    "instructblip-t5": instructblip_t5,
    "paligemma": paligemma,
    "paligemma-2": paligemma2,
    "florence2": florence2,
}


def save(name: str, folder: Path) -> Path:
    """A captioner whose captions differ from picture to picture."""
    torch.manual_seed(1)
    model, tokenizer, image_processor = MAKERS[name]()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weights, weight in model.named_parameters():
            if weight.ndim > 1:
                fan_in = weight[0].numel()
                weight.normal_(0, 1.7 / fan_in**0.5, generator=generator)
            elif weights.endswith("bias"):
                weight.normal_(0, 0.3, generator=generator)
            elif name == "paligemma-2":  # whose norms would let every word repeat itself
                weight.normal_(1, 1, generator=generator)
    for part in (model, tokenizer, image_processor):
        part.save_pretrained(folder)
    if name.startswith("instructblip"):
        word_tokenizer(wrapped=True).save_pretrained(folder / "qformer_tokenizer")
    return folder


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a captioner by its name in ``MAKERS``."""
    return cache(lambda name: save(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="session", params=list(MAKERS))
def family_model(request: pytest.FixtureRequest, saved: Callable[[str], Path]) -> Path:
    return saved(request.param)


@pytest.fixture(scope="session")
def vit_gpt2_model(saved: Callable[[str], Path]) -> Path:
    return saved("vision-encoder-decoder")


@pytest.fixture(scope="session")
def git_model(saved: Callable[[str], Path]) -> Path:
    return saved("git")


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray[Any, Any]]:
    """Thirty-two of different sizes, (H, W, 3) uint8 RGB, with large and small shapes in them."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(32):
        height, width = rng.integers(24, 80, 2)
        pixels = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
        for _ in range(number % 4 + 1):
            top, left = rng.integers(0, height - 8), rng.integers(0, width - 8)
            pixels[top : top + rng.integers(4, 40), left : left + rng.integers(4, 40)] = (
                rng.integers(0, 256, 3)
            )
        made.append(pixels)
    return made
