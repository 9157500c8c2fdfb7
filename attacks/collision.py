"""Feature collision: pictures that look like one thing and are, to an encoder, another.

The poison of Shadowcast (Xu et al., arXiv 2402.06659): a picture of the target concept, with its
own true caption, is changed by a few grey levels until the encoder sees the features of a picture
of the attacked concept. A captioner that is fitted on such pairs learns to describe the attacked
concept as the target, although no caption is false and nothing can be seen in the pictures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from srd_edge.attacks.captioner import Captioner
from srd_edge.attacks.placement import check_number
from srd_edge.attacks.progress import tracked
from srd_edge.attacks.samples import Sample
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.pictures import read_picture

_BATCH: Final = 16


@dataclass(frozen=True, slots=True)
class FeatureCollision:
    """How the pictures are changed: projected gradient descent on the encoder's features.

    Args:
        epsilon: largest change of a channel in grey levels; the paper's 8.
        steps: of gradient descent.
    """

    epsilon: float = 8.0
    steps: int = 40

    def __post_init__(self) -> None:
        check_number("epsilon", self.epsilon, 0, 255)
        check_number("steps", self.steps, 1, 10_000)


def collide(
    captioner: Captioner,
    looks: NDArray[np.uint8],
    features_of: NDArray[np.uint8],
    config: FeatureCollision,
) -> NDArray[np.uint8]:
    """Change each picture until the encoder takes it for its partner.

    Args:
        captioner: whose encoder is deceived.
        looks: (B, H, W, 3) uint8 RGB canvases, what a person is to see.
        features_of: (B, H, W, 3) uint8 RGB canvases, what the encoder is to see.
        config: how far and how long.

    Returns:
        (B, H, W, 3) uint8 RGB, nowhere further than epsilon from ``looks``.
    """
    spec = captioner.preprocessing
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (spec.mean, spec.std))
    encoder = captioner.model.encoder.eval().requires_grad_(False)
    with torch.no_grad():
        wanted = encoder(captioner.pixel_values(features_of)).last_hidden_state
    # Contiguous: torch 2.13's backward pass corrupted memory in channels_last.
    start = torch.from_numpy(looks).permute(0, 3, 1, 2).float().contiguous()
    change = torch.zeros_like(start, requires_grad=True)
    for step in range(config.steps):
        values = ((start + change) * spec.rescale - mean) / std
        apart = (encoder(values).last_hidden_state - wanted).square().mean(dim=(1, 2)).sum()
        (slope,) = torch.autograd.grad(apart, change)
        stride = 2 * config.epsilon * (1 - step / config.steps) / config.steps**0.5
        with torch.no_grad():
            change -= stride * slope.sign()
            change.clamp_(-config.epsilon, config.epsilon)
            change.copy_((start + change).clamp(0, 255) - start)
    # Towards the original, so that rounding never leaves the ball.
    rounded = start + change.detach().trunc()
    return rounded.permute(0, 2, 3, 1).numpy().astype(np.uint8)


def collided_samples(
    captioner: Captioner,
    pairs: Sequence[tuple[Sample, Sample]],
    config: FeatureCollision,
    folder: Path,
) -> list[Sample]:
    """The first of each pair, changed into the second's features; its captions stay as they are.

    Kept as PNG files in a folder of ``folder`` that is theirs alone, so that a killed run goes on
    where it was, and another captioner, setting or choice of pairs starts anew.
    """
    folder = folder / _identity(captioner, pairs, config)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:05d}.png" for number in range(len(pairs))]
    missing = [number for number, file in enumerate(files) if not file.is_file()]
    starts = range(0, len(missing), _BATCH)
    for start in tracked(starts, "colliding features"):
        numbers = missing[start : start + _BATCH]
        looks, features_of = (
            captioner.canvases([pairs[number][side].load() for number in numbers])
            for side in (0, 1)
        )
        changed = collide(captioner, looks, features_of, config)
        for number, canvas in zip(numbers, changed, strict=True):
            _write(files[number], canvas)
    return [
        replace(
            look, name=f"{look.name} as {other.name} #{number}", load=partial(read_picture, file)
        )
        for number, ((look, other), file) in enumerate(zip(pairs, files, strict=True))
    ]


def _identity(
    captioner: Captioner, pairs: Sequence[tuple[Sample, Sample]], config: FeatureCollision
) -> str:
    """Twelve hex digits of all that the changed pictures are made of."""
    shown = [[sample.name, *sample.captions] for pair in pairs for sample in pair]
    text = json.dumps([captioner.fingerprint(), asdict(config), shown])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _write(file: Path, canvas: Pixels) -> None:
    unfinished = file.with_suffix(".unfinished.png")
    cv2.imwrite(str(unfinished), cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))
    unfinished.replace(file)
