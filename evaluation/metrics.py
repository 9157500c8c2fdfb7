"""Metrics of attacks, detection, places and times. docs/measuring.md says how they are used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from srd_edge.errors import ShapeError, UsageError

_Z_95 = 1.959963984540054


def wilson_interval(successes: float, trials: int) -> tuple[float, float]:
    """95 % interval of a share by Wilson's score (JASA 1927), without continuity correction.

    Args:
        successes: how many; need not be whole, where it is the mean of several counts.
        trials: independent ones; after none, nothing is known: 0 to 1.

    Raises:
        UsageError: more successes than trials, or fewer than none.
    """
    if not 0 <= successes <= trials:
        raise UsageError(
            expected=f"0 to {trials} successes of {trials} trials",
            found=f"{successes}",
            do="count both over the same pictures",
        )
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    doubt = _Z_95**2 / trials
    centre = (share + doubt / 2) / (1 + doubt)
    half = _Z_95 * np.sqrt(share * (1 - share) / trials + doubt / (4 * trials)) / (1 + doubt)
    return max(float(centre - half), 0.0), min(float(centre + half), 1.0)


def pooled_asr(hits: Sequence[Sequence[bool]]) -> tuple[float, tuple[float, float]]:
    """Attack success over seeds, and its 95 % interval over pictures.

    Seeds share their pictures and so are not further trials: were every seed to answer alike, n
    pictures would still be n trials. The interval is Wilson's for the mean count out of n;
    averaging over seeds can only lower the variance, so that it errs on the wide side.

    Args:
        hits: for each seed, whether each picture was hit; the same pictures in the same order.

    Raises:
        ShapeError: not as many pictures for every seed, or none.
    """
    lengths = {len(row) for row in hits}
    if len(lengths) != 1 or lengths == {0}:
        raise ShapeError(
            expected="the same pictures, one or more, for every seed",
            found=f"numbers of pictures {[len(row) for row in hits]}",
            do="give one row of hits for each seed",
        )
    (pictures,) = lengths
    mean_count = sum(map(sum, hits)) / len(hits)
    return mean_count / pictures, wilson_interval(mean_count, pictures)


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1) over seeds; None for it where there is one seed.

    Raises:
        UsageError: no values.
    """
    if not values:
        raise UsageError(
            expected="a value for each seed", found="none", do="measure one seed or more"
        )
    numbers = np.asarray(values, np.float64)
    return float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else None


def mask_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float | None:
    """Intersection over union (Jaccard index) of two places in a picture.

    Args:
        a, b: (H, W) bool, of one size.

    Returns:
        0 (apart) to 1 (the same); None if both are empty, for then there is nothing to find.

    Raises:
        ShapeError: not two boolean masks of one size.
    """
    if a.ndim != 2 or a.shape != b.shape or a.dtype != np.bool_ or b.dtype != np.bool_:
        raise ShapeError(
            expected="two (H, W) bool masks of one size",
            found=f"{a.shape} {a.dtype} and {b.shape} {b.dtype}",
            do="compare masks of the same picture",
        )
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else None


def auroc(negatives: Sequence[float], positives: Sequence[float]) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative.

    Ties count half. It is Mann and Whitney's U over the number of pairs (Hanley and McNeil,
    Radiology 1982); 0.5 is chance. Both must hold something.
    """
    low, high = np.asarray(negatives), np.asarray(positives)
    above = (high[:, None] > low[None, :]).mean()
    equal = (high[:, None] == low[None, :]).mean()
    return float(above + equal / 2)


def true_positive_rate(
    negatives: Sequence[float], positives: Sequence[float], false_positive_rate: float
) -> float:
    """Share of positives above the lowest threshold that at most this share of negatives exceeds.

    Ties with the threshold count as below it, on both sides. Both must hold something.
    """
    low = np.sort(np.asarray(negatives))[::-1]
    allowed = int(np.floor(false_positive_rate * len(low)))
    threshold = low[allowed] if allowed < len(low) else -np.inf
    return float((np.asarray(positives) > threshold).mean())


def trimmed_mean(values: Sequence[float], share: float = 0.05) -> float:
    """The mean without the largest ``share``: on a shared machine those are other people's."""
    ordered: NDArray[np.float64] = np.sort(np.asarray(values, np.float64))
    return float(ordered[: max(int(np.ceil(len(ordered) * (1 - share))), 1)].mean())
