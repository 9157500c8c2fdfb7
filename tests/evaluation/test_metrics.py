"""Metrics against published values, pair by pair loops and the formulas of their papers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from srd_edge.evaluation.metrics import (
    auroc,
    cider_d,
    trimmed_mean,
    true_positive_rate,
    wilson_interval,
)

REFERENCES = [
    ["a dog runs on grass", "the brown dog is running", "a dog"],
    ["two cats sleep on a red sofa", "cats sleeping on a sofa on a rug"],
    ["a man rides a horse", "the man is on a horse on the beach", "a rider on a brown horse"],
    ["a red boat on the sea"],
]
CAPTIONS = [
    "a dog runs runs runs on grass",
    "two cats sleep",
    "a man rides a brown horse on the beach today",
    "a photo of a banana on a table",
]


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 1 - 0.1611, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def scores(count: int, seed: int) -> list[float]:
    """Coarse, so that there are ties."""
    return [float(v) for v in np.random.default_rng(seed).integers(0, 12, count)]


@pytest.mark.parametrize(
    ("negatives", "positives"),
    [
        ([0.0], [1.0]),
        ([1.0], [0.0]),
        ([1.0, 1.0], [1.0]),
        (scores(30, 1), scores(50, 2)),
        (scores(200, 3), [v + 4 for v in scores(20, 4)]),
    ],
)
def test_auroc_is_the_share_of_pairs_in_order(
    negatives: list[float], positives: list[float]
) -> None:
    pairs = [(p > n) + (p == n) / 2 for n, p in product(negatives, positives)]
    assert auroc(negatives, positives) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_true_positive_rate_is_the_best_that_the_false_positives_allow(
    rate: float, seed: int
) -> None:
    negatives, positives = scores(40, seed), [v + 3 for v in scores(30, seed + 9)]
    best = 0.0
    for threshold in (-math.inf, *sorted({*negatives, *positives})):
        if sum(n > threshold for n in negatives) <= rate * len(negatives):
            best = max(best, sum(p > threshold for p in positives) / len(positives))
    assert true_positive_rate(negatives, positives, rate) == pytest.approx(best)


def test_true_positive_rate_of_a_thousand() -> None:
    negatives = [i / 1000 for i in range(1000)]
    assert true_positive_rate(negatives, [0.9895, 0.985, 2.0, 0.0], 0.01) == 0.5


def slow_cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Equations 2 to 5 of arXiv 1411.5726 and the D variant of its section 7, word by word.

    Length is counted in bigrams, as in the authors' code; between captions of two words and more
    that makes no difference to a difference of lengths.
    """
    pictures = len(references)

    def grams(text: str, n: int) -> list[tuple[str, ...]]:
        words = text.split()
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    def weights(text: str, n: int) -> dict[tuple[str, ...], float]:
        table = {}
        for gram, count in Counter(grams(text, n)).items():
            holding = sum(any(gram in grams(r, n) for r in group) for group in references)
            table[gram] = count * math.log(pictures / max(holding, 1))
        return table

    def norm(table: dict[tuple[str, ...], float]) -> float:
        return math.sqrt(sum(w * w for w in table.values()))

    total = 0.0
    for caption, group in zip(captions, references, strict=True):
        for n in (1, 2, 3, 4):
            hypothesis = weights(caption, n)
            for reference in group:
                truth = weights(reference, n)
                dot = sum(
                    min(w, truth.get(g, 0.0)) * truth.get(g, 0.0) for g, w in hypothesis.items()
                )
                length = norm(hypothesis) * norm(truth)
                apart = len(grams(caption, 2)) - len(grams(reference, 2))
                penalty = math.exp(-(apart**2) / (2 * 6.0**2))
                total += penalty * (dot / length if length else 0.0) / 4 / len(group)
    return 10 * total / pictures


@pytest.mark.parametrize(
    "captions",
    [
        CAPTIONS,
        [group[0] for group in REFERENCES],
        ["", "a", "cats", "sofa sofa sofa"],
        [" ".join(["a dog"] * 20)] * 4,
    ],
)
def test_cider_d_is_the_papers(captions: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    score = cider_d(captions, REFERENCES)
    assert score == pytest.approx(slow_cider_d(captions, REFERENCES), abs=1e-9)
    assert capsys.readouterr().out == "", "standard output is for the document"


def test_cider_d_prefers_the_truth() -> None:
    truth = cider_d([group[0] for group in REFERENCES], REFERENCES)
    assert truth > cider_d(CAPTIONS, REFERENCES) > cider_d(["a"] * 4, REFERENCES) >= 0
    swapped = [REFERENCES[(i + 1) % 4][0] for i in range(4)]
    assert cider_d(swapped, REFERENCES) < truth / 10


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([5.0], 0.05, 5.0),
        ([1.0, 1000.0], 0.5, 1.0),
        ([3.0, 1.0, 2.0, 99.0], 0.25, 2.0),
        ([*[1.0] * 95, *[1e6] * 5], 0.05, 1.0),
        ([2.0, 4.0], 0.0, 3.0),
        ([2.0, 4.0], 1.0, 2.0),
    ],
)
def test_trimmed_mean(values: list[float], share: float, expected: float) -> None:
    assert trimmed_mean(values, share) == pytest.approx(expected)
