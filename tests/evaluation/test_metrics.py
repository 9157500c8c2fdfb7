"""Metrics against published values, pair by pair loops and the formulas of their papers."""

from __future__ import annotations

import math
import statistics
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge.errors import ShapeError, UsageError
from srd_edge.evaluation.metrics import (
    auroc,
    mask_iou,
    pooled_asr,
    spread,
    trimmed_mean,
    true_positive_rate,
    wilson_interval,
)


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


@pytest.mark.parametrize(("successes", "trials"), [(1, 7), (2.5, 10), (99.9, 100), (3, 3)])
def test_wilson_holds_the_shares_that_the_count_does_not_contradict(
    successes: float, trials: int
) -> None:
    """Its ends are where the count is 1.96 standard deviations from what would be expected."""
    for end in wilson_interval(successes, trials):
        apart = abs(successes - trials * end)
        assert apart == pytest.approx(1.959964 * math.sqrt(trials * end * (1 - end)), abs=1e-5)


@pytest.mark.parametrize(("successes", "trials"), [(3, 2), (-1, 2), (1, 0), (math.nan, 3)])
def test_wilson_refuses_an_impossible_count(successes: float, trials: int) -> None:
    with pytest.raises(UsageError, match=f"expected 0 to {trials} successes"):
        wilson_interval(successes, trials)


def test_seeds_are_no_further_trials() -> None:
    row = [True, False, False, True, False]
    for seeds in (1, 3, 10):
        rate, interval = pooled_asr([row] * seeds)
        assert rate == 0.4
        assert interval == pytest.approx(wilson_interval(2, 5), abs=1e-12)
    rate, interval = pooled_asr([row, [True] * 5])
    assert rate == pytest.approx(7 / 10)
    assert interval == pytest.approx(wilson_interval(3.5, 5), abs=1e-12)


def test_the_interval_over_seeds_holds_the_truth_as_often_as_it_says() -> None:
    """Pictures that are hit with chances of their own, seen in three seeds each."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(2000):
        chances = rng.beta(0.5, 1.0, 40)  # of new pictures, whose mean is 1/3
        low, high = pooled_asr((rng.random((3, 40)) < chances).tolist())[1]
        held += low <= 1 / 3 <= high
    assert 0.95 <= held / 2000 < 1


@pytest.mark.parametrize("hits", [[], [[]], [[True], [True, False]], [[], [True]]])
def test_seeds_of_other_pictures_are_refused(hits: list[list[bool]]) -> None:
    with pytest.raises(ShapeError, match="the same pictures, one or more, for every seed"):
        pooled_asr(hits)


@pytest.mark.parametrize(
    "values", [[2.0, 4.0], [0.1, 0.1, 0.1], [1.0, 2.0, 3.0, 4.5, -7.0], [1e6, 1e6 + 1]]
)
def test_spread_is_the_samples(values: list[float]) -> None:
    mean, deviation = spread(values)
    assert mean == pytest.approx(statistics.mean(values))
    assert deviation == pytest.approx(statistics.stdev(values), abs=1e-12)


def test_one_seed_has_no_spread() -> None:
    assert spread([0.25]) == (0.25, None)
    with pytest.raises(UsageError, match="a value for each seed"):
        spread([])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_mask_iou_counts_pixels(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((7, 11)) < share, rng.random((7, 11)) < 0.4
    pixels = list(product(range(7), range(11)))
    in_a, in_b = ({p for p in pixels if mask[p]} for mask in (a, b))
    assert mask_iou(a, b) == mask_iou(b, a) == len(in_a & in_b) / len(in_a | in_b)


def test_mask_iou_of_the_same_of_others_and_of_nothing() -> None:
    nothing = np.zeros((4, 6), bool)
    left, right = nothing.copy(), nothing.copy()
    left[:, :3], right[:, 3:] = True, True
    assert mask_iou(left, left) == 1
    assert mask_iou(left, right) == mask_iou(left, nothing) == 0
    assert mask_iou(nothing, nothing) is None


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((4, 6), bool), np.zeros((6, 4), bool)),
        (np.zeros((1, 6), bool), np.zeros((4, 6), bool)),
        (np.zeros((4, 6), np.uint8), np.zeros((4, 6), bool)),
        (np.zeros((4, 6), bool), np.zeros((4, 6), np.float32)),
        (np.zeros(6, bool), np.zeros(6, bool)),
    ],
)
def test_mask_iou_refuses_what_cannot_be_compared(a: NDArray[Any], b: NDArray[Any]) -> None:
    with pytest.raises(ShapeError, match=r"two \(H, W\) bool masks of one size"):
        mask_iou(a, b)


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
