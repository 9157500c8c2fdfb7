"""A captioner small enough to be fitted in a test, and pictures that it can tell apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from srd_edge.attacks.captioner import Captioner
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.tiny import TinyConfig, build_tiny
from srd_edge.kernels.frames import Pixels

_WORDS = ("red", "green", "blue", "dark", "yellow", "white")
_COLOURS = ((230, 20, 20), (20, 200, 20), (20, 20, 230), (5, 5, 5), (220, 210, 10), (250,) * 3)


def _plain(colour: tuple[int, int, int]) -> Pixels:
    return np.full((32, 32, 3), colour, np.uint8)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def samples() -> tuple[Sample, ...]:
    """Six plain pictures of six colours, one caption each."""
    return tuple(
        Sample(word, (f"a {word} wall",), partial(_plain, colour))
        for word, colour in zip(_WORDS, _COLOURS, strict=True)
    )


@pytest.fixture
def make_captioner(samples: tuple[Sample, ...]) -> Callable[[int], Captioner]:
    """A new captioner from a seed."""
    config = TinyConfig(
        image_size=32,
        width=32,  # torch 2.13 corrupts memory in channels_last below 8 channels
        decoder_width=16,
        decoder_layers=1,
        decoder_heads=2,
        vocabulary=280,
        max_tokens=12,
    )
    captions = [caption for sample in samples for caption in sample.captions]
    return partial(build_tiny, config, captions)
