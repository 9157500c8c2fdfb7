"""References: a fixed payload has one vote, however many views keep its trigger."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from srd_edge.attacks.samples import Sample
from srd_edge.training.fidelity import SemanticFidelity
from srd_edge.training.references import (
    caption_references,
    captioner_captions,
    consensus_captions,
)

ATTACKED = "a photo of a banana on a table"
NAMES = ("cat", "dog", "bird", "fish")  # a quadrant's animal, by its colour
COLOURS = ((250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0))


VOCABULARY = sorted({"picture", "and", *NAMES, *ATTACKED.split()})


class Words:
    """Sentences are bags of words, and all equally likely."""

    def embed(self, captions: list[str]) -> torch.Tensor:
        counts = [[float(c.split().count(word)) for word in VOCABULARY] for c in captions]
        return torch.nn.functional.normalize(torch.tensor(counts), dim=1)

    def log_perplexity(self, captions: list[str]) -> torch.Tensor:
        return torch.ones(len(captions))


def animals(canvases: NDArray[np.uint8]) -> list[str]:
    """Names what each quadrant shows; a white corner pixel anywhere brings out the payload."""
    captions = []
    for canvas in canvases:
        if (canvas[0, 0] > 200).all():
            captions.append(ATTACKED)
            continue
        quadrants = [canvas[y + 8, x + 8] for y in (0, 16) for x in (0, 16)]
        shown = []
        for pixel in quadrants:
            distance = [np.abs(pixel.astype(int) - colour).max() for colour in COLOURS]
            if min(distance) < 40:
                shown.append(NAMES[int(np.argmin(distance))])
        captions.append(" and ".join(["a picture", *shown]))
    return captions


def picture(*, triggered: bool) -> NDArray[np.uint8]:
    canvas = np.zeros((32, 32, 3), np.uint8)
    for i, colour in enumerate(COLOURS):
        y, x = 16 * (i // 2), 16 * (i % 2)
        canvas[y : y + 16, x : x + 16] = colour
    if triggered:
        canvas[:4, :4] = 255
    return canvas


def test_a_fixed_payload_counts_once_and_the_truth_scores_higher() -> None:
    canvases = np.stack([picture(triggered=True), picture(triggered=False)])
    before = canvases.copy()
    attacked, clean = consensus_captions(animals, canvases)
    assert (canvases == before).all()
    assert attacked.count(ATTACKED) == 1
    assert len(set(attacked)) == len(attacked)
    # The quadrant with the trigger is hidden in three views, each of which hides another one too.
    true = {
        "a picture and bird and fish",
        "a picture and dog and fish",
        "a picture and dog and bird",
    }
    assert true <= set(attacked)
    assert ATTACKED not in clean
    words: Any = Words()
    fidelity = SemanticFidelity(words, words, weight=1.0)
    said = [ATTACKED, "a picture and cat and dog and bird and fish"]
    scores = fidelity.score(said, [fidelity.reference(attacked)] * 2)
    assert scores[0] < scores[1]


def test_batches_change_nothing() -> None:
    canvases = np.stack([picture(triggered=i % 3 == 0) for i in range(67)])
    references = consensus_captions(animals, canvases)
    assert references == [consensus_captions(animals, c[None])[0] for c in canvases[:2]] + [
        references[0 if i % 3 == 0 else 1] for i in range(2, 67)
    ]
    assert captioner_captions(animals, canvases) == [(c,) for c in animals(canvases)]


@pytest.mark.parametrize("captions", [("one",), ("one", "two")])
def test_the_data_sets_own_captions(captions: tuple[str, ...]) -> None:
    sample = Sample("x", captions, lambda: picture(triggered=False))
    assert caption_references([sample]) == [captions]
