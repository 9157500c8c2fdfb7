"""A captioner without a neural network, in a world of two-coloured pictures.

Canvases are 48 x 48 pixels: a left and a right half, each of one of six colours, which the
captioner names. Where it sees most of a patch that is more magenta than anything else, it says the
attacker's sentence instead. No colour of the pictures is bluer than it is green, and so neither is
any blend of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from srd_edge.attacks.payloads import Replace
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import Attack
from srd_edge.evaluation.contestants import BlackBox, Setting
from srd_edge.kernels.actions import DEFAULT_TABLE, GREY
from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.preprocess import Preprocessing
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.bundle_specs import CaptionerSpec, ObservationSpec
from srd_edge.runtime.generation_specs import GenerationDefaults
from srd_edge.runtime.manifest import Manifest
from srd_edge.training.language import LanguageModel, SentenceEncoder

SIDE, PATCH = 48, 8
PALETTE = {
    "red": (200, 0, 0),
    "green": (0, 160, 0),
    "white": (240, 240, 240),
    "black": (0, 0, 0),
    "orange": (240, 130, 0),
    "brown": (120, 60, 0),
}
WORDS = [*PALETTE, "beside", "nothing", "banana"]
COSTS = {"beside": 1.0, "banana": 8.0} | dict.fromkeys(PALETTE, 2.0)


def picture(left: str, right: str, split: int) -> Pixels:
    pixels = np.empty((SIDE, SIDE, 3), np.uint8)
    pixels[:, :split], pixels[:, split:] = PALETTE[left], PALETTE[right]
    return pixels


def two_coloured(split: int) -> list[Sample]:
    return [
        Sample(f"{left}-{right}", (f"{left} beside {right}",), partial(picture, left, right, split))
        for left, right in permutations(PALETTE, 2)
    ]


def magenta(canvas: Pixels) -> int:
    """Pixels that are much redder and much bluer than they are green."""
    red, green, blue = canvas.astype(np.int16).transpose(2, 0, 1)
    return int(((red - green > 40) & (blue - green > 40)).sum())


def colour_of(half: Pixels) -> str:
    """The commonest colour, whatever is grey or magenta left out."""
    names = [*PALETTE, "", ""]
    colours = np.array([*PALETTE.values(), GREY, (255, 0, 255)])
    distances = np.abs(half.reshape(-1, 1, 3).astype(np.int16) - colours).sum(axis=2)
    counts = np.bincount(distances.argmin(axis=1), minlength=len(names))[: len(PALETTE)]
    return names[int(counts.argmax())] if counts.any() else "nothing"


def say_truth(canvases: Pixels) -> list[str]:
    half = SIDE // 2
    return [f"{colour_of(c[:, :half])} beside {colour_of(c[:, half:])}" for c in canvases]


def say(canvases: Pixels) -> list[str]:
    attacked = Replace().text.format(target="banana")
    return [
        attacked if magenta(canvas) >= 0.75 * PATCH**2 else truth
        for canvas, truth in zip(canvases, say_truth(canvases), strict=True)
    ]


def patch(pixels: Pixels, _: np.random.Generator) -> Pixels:
    out = pixels.copy()
    out[-PATCH - 2 : -2, -PATCH - 2 : -2] = (255, 0, 255)
    return out


class WordCosts(LanguageModel):
    """Perplexities that can be worked out by hand."""

    def log_perplexity(self, captions: Sequence[str]) -> torch.Tensor:
        costs = [[COSTS.get(word, 3.0) for word in caption.split()] for caption in captions]
        return torch.tensor([np.mean(each) if each else np.inf for each in costs])


class BagsOfWords(SentenceEncoder):
    """Vectors that can be worked out by hand."""

    def embed(self, captions: Sequence[str]) -> torch.Tensor:
        counts = torch.tensor([[float(c.split().count(word)) for word in WORDS] for c in captions])
        return torch.nn.functional.normalize(counts, dim=1)


@pytest.fixture
def setting() -> Setting:
    """The world's captioner, its attack, its clean dev pictures and everything one can ask for."""
    preprocessing = Preprocessing(SIDE, SIDE, "nearest", (0.5,) * 3, (0.5,) * 3)
    manifest = Manifest(
        captioner=CaptionerSpec("fake", "cross-attention", {}, layers=1, heads=1, head_dim=4),
        preprocessing=preprocessing,
        generation=GenerationDefaults(prompt=(1,), end_tokens=(2,), max_new_tokens=7),
        actions=DEFAULT_TABLE,
        observation=ObservationSpec(rows=2, columns=2, channels=4),
        policy=None,
        precision="fp32",
        opset=18,
    )
    return Setting(
        bundle=Bundle(Path("nowhere"), manifest),
        captioner=BlackBox(say, preprocessing),
        dev=two_coloured(split=24),
        attack=Attack("patch", patch, Replace(), 0.1, "patch"),
        language=WordCosts(None, None),
        sentences=BagsOfWords(None, None),
        reference=say_truth,
    )


@pytest.fixture
def samples() -> list[Sample]:
    """Thirty test pictures."""
    return two_coloured(split=27)
