"""How alike two captions are, and the level that an alarm begins at.

Rivals tell a trigger by captions that agree too much or too little with each other. What is too
much is learned on clean dev pictures: the level that 1 % of them exceed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from srd_edge.errors import UsageError

FALSE_ALARMS: Final = 0.01
"""Share of clean dev pictures that may be called suspicious."""
THRESHOLD_PICTURES: Final = 300
"""Dev pictures, at most, that a threshold is learned on; the third highest level decides."""


def word_overlap(one: str, other: str) -> float:
    """F1 of the words that two captions share, 0..1, repeated words counted as often.

    Two empty captions agree; an empty one agrees with no other. The order of the words is left
    out of account. (The token F1 of Rajpurkar et al., SQuAD, arXiv 1606.05250.)
    """
    left, right = one.split(), other.split()
    if not left or not right:
        return float(left == right)
    shared = sum((Counter(left) & Counter(right)).values())
    return 2 * shared / (len(left) + len(right))


def medoid(captions: Sequence[str]) -> int:
    """The number of the caption that agrees most with the others; the first of equals."""
    sums = [sum(word_overlap(one, other) for other in captions) for one in captions]
    return sums.index(max(sums))


def alarm_threshold(clean_levels: Sequence[float], share: float = FALSE_ALARMS) -> float:
    """The level that at most ``share`` of the clean pictures exceed; an alarm is what exceeds it.

    Raises:
        UsageError: without a single clean picture.
    """
    if not clean_levels:
        raise UsageError(
            expected="clean dev pictures to learn a threshold on",
            found="none",
            do="use a data set with a dev split",
        )
    descending = np.sort(np.asarray(clean_levels, np.float64))[::-1]
    return float(descending[min(int(share * len(descending)), len(descending) - 1)])
