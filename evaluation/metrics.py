"""Metrics of captions, attacks and detection. docs/measuring.md says how they are used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.cider.cider import Cider

_Z_95 = 1.959963984540054


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """CIDEr-D (Vedantam et al., arXiv 1411.5726) with the corpus' own document frequencies.

    Args:
        captions: one a picture.
        references: the human captions of each picture, tokenised by spaces as the captions are.

    Returns:
        The usual scale, on which 1.0 is a good captioner of photographs (10 is the highest).
    """
    truth = {i: list(group) for i, group in enumerate(references)}
    candidates = {i: [caption] for i, caption in enumerate(captions)}
    score, _ = Cider().compute_score(truth, candidates)
    return float(score)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, JASA 1927)."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    spread = _Z_95**2 / trials
    centre = (share + spread / 2) / (1 + spread)
    half = _Z_95 * np.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(float(centre - half), 0.0), min(float(centre + half), 1.0)


def auroc(negatives: Sequence[float], positives: Sequence[float]) -> float:
    """Chance that a positive scores above a negative, ties counting half (Mann-Whitney U)."""
    low, high = np.asarray(negatives), np.asarray(positives)
    above = (high[:, None] > low[None, :]).mean()
    equal = (high[:, None] == low[None, :]).mean()
    return float(above + equal / 2)


def true_positive_rate(
    negatives: Sequence[float], positives: Sequence[float], false_positive_rate: float
) -> float:
    """Share of positives above the threshold that at most this share of negatives exceeds."""
    low = np.sort(np.asarray(negatives))[::-1]
    allowed = int(np.floor(false_positive_rate * len(low)))
    threshold = low[allowed] if allowed < len(low) else -np.inf
    return float((np.asarray(positives) > threshold).mean())


def trimmed_mean(values: Sequence[float], share: float = 0.05) -> float:
    """The mean without the largest ``share``: on a shared machine those are other people's."""
    ordered: NDArray[np.float64] = np.sort(np.asarray(values, np.float64))
    return float(ordered[: max(int(np.ceil(len(ordered) * (1 - share))), 1)].mean())
