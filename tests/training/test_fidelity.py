"""The semantic fidelity score, worked out by hand with models whose every answer is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from srd_edge.training.fidelity import Reference, SemanticFidelity

HALF = math.sqrt(0.5)
# caption: (unit vector, log perplexity)
KNOWN: dict[str, tuple[tuple[float, float], float]] = {
    "truth": ((1.0, 0.0), 1.0),
    "close": ((HALF, HALF), 1.0),
    "other": ((0.0, 1.0), 3.0),
    "opposite": ((-1.0, 0.0), 2.0),
    "fluent": ((1.0, 0.0), 0.5),
    "": ((0.0, 0.0), math.inf),
}


class Stub:
    def embed(self, captions: list[str]) -> torch.Tensor:
        return torch.tensor([KNOWN[caption][0] for caption in captions])

    def log_perplexity(self, captions: list[str]) -> torch.Tensor:
        return torch.tensor([KNOWN[caption][1] for caption in captions])


STUB: Any = Stub()


@pytest.mark.parametrize(
    ("caption", "references", "consistency", "fluency"),
    [
        ("truth", ["truth"], 1.0, 1.0),
        ("close", ["truth"], HALF, 1.0),
        ("other", ["truth"], 0.0, math.exp(-2)),
        ("opposite", ["truth"], 0.0, math.exp(-1)),
        ("fluent", ["truth"], 1.0, 1.0),
        ("truth", ["fluent"], 1.0, math.exp(-0.5)),
        # Several references: the mean of the similarities, and of the log perplexities (here 2).
        ("close", ["truth", "other"], HALF, 1.0),
        ("truth", ["truth", "other"], 0.5, 1.0),
        ("other", ["truth", "other"], 0.5, math.exp(-1)),
        # A similarity below 0 counts as 0 before the mean is taken, not after.
        ("truth", ["truth", "opposite"], 0.5, 1.0),
        ("", ["truth"], 0.0, 0.0),
        ("", [""], 0.0, 0.0),
    ],
)
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_by_hand(
    caption: str, references: list[str], consistency: float, fluency: float, weight: float
) -> None:
    fidelity = SemanticFidelity(STUB, STUB, weight)
    reference = fidelity.reference(references)
    parts = fidelity.parts([caption], [reference])
    assert [float(part) for part in parts] == pytest.approx([consistency, fluency])
    expected = weight * consistency + (1 - weight) * fluency
    assert float(fidelity.score([caption], [reference])) == pytest.approx(expected)


def test_a_batch_is_each_by_itself() -> None:
    fidelity = SemanticFidelity(STUB, STUB)
    groups = [["truth", "other"], ["fluent"], ["close", "close", "opposite"]]
    references = fidelity.references(groups)
    for group, reference in zip(groups, references, strict=True):
        alone = fidelity.reference(group)
        assert torch.equal(reference.vectors, alone.vectors)
        assert reference.log_perplexity == alone.log_perplexity
    captions = ["other", "truth", "close"]
    alone_scores = [
        float(fidelity.score([c], [r])) for c, r in zip(captions, references, strict=True)
    ]
    assert fidelity.score(captions, references).tolist() == alone_scores


def test_the_score_is_bounded_whatever_the_rounding() -> None:
    """Unit vectors of float32 are up to an ulp too long."""

    class Random:
        def embed(self, captions: list[str]) -> torch.Tensor:
            torch.manual_seed(0)
            return torch.nn.functional.normalize(torch.randn(len(captions), 128), dim=1)

        def log_perplexity(self, captions: list[str]) -> torch.Tensor:
            return torch.linspace(0, 50, len(captions))

    random: Any = Random()
    captions = [str(i) for i in range(500)]
    vectors = random.embed(captions)
    assert (vectors * vectors).sum(dim=1).max() > 1, "the case that this test is about"
    fidelity = SemanticFidelity(random, random, weight=1.0)
    score = fidelity.score(captions, [Reference(v[None], 1.0) for v in vectors])
    assert 0 <= float(score.min()) <= float(score.max()) <= 1
    assert torch.equal(score, fidelity.score(captions, [Reference(v[None], 1.0) for v in vectors]))
