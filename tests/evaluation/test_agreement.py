"""Likeness of captions and the level of an alarm, on answers known by hand."""

from __future__ import annotations

import pytest

from srd_edge.errors import UsageError
from srd_edge.evaluation.agreement import alarm_threshold, medoid, word_overlap


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("a dog runs", "a dog runs", 1.0),
        ("a dog runs", "runs dog a", 1.0),
        ("a dog runs", "two cats sleep", 0.0),
        ("a dog", "a dog runs fast", 2 * 2 / 6),
        ("a a a", "a", 2 * 1 / 4),
        ("", "", 1.0),
        ("", "a dog", 0.0),
        ("a dog", "  ", 0.0),
    ],
)
def test_word_overlap(one: str, other: str, overlap: float) -> None:
    assert word_overlap(one, other) == word_overlap(other, one) == pytest.approx(overlap)


def test_the_medoid_agrees_most_and_the_first_of_equals_wins() -> None:
    assert medoid(["a banana", "a dog runs", "a dog sits", "a dog"]) == 3
    assert medoid(["a", "b", "c"]) == 0


@pytest.mark.parametrize(("pictures", "alarms"), [(1, 0), (99, 0), (100, 1), (300, 3), (350, 3)])
def test_so_many_clean_pictures_exceed_the_threshold(pictures: int, alarms: int) -> None:
    levels = [float((7 * i) % pictures) for i in range(pictures)]
    threshold = alarm_threshold(levels)
    assert threshold in levels
    assert sum(level > threshold for level in levels) <= alarms
    distinct = [float(i) for i in range(pictures)]
    assert sum(level > alarm_threshold(distinct) for level in distinct) == alarms


def test_a_share_of_all_raises_an_alarm_for_all_but_the_lowest() -> None:
    assert alarm_threshold([3.0, 1.0, 2.0], share=1.0) == 1.0


def test_no_clean_picture_is_an_error() -> None:
    with pytest.raises(UsageError, match="found none"):
        alarm_threshold([])
