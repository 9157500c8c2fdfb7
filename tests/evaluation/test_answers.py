"""Answers on disk: kept in whole rounds, and whatever a kill left of one is asked again."""

from __future__ import annotations

from pathlib import Path

import pytest

from srd_edge.evaluation.answers import ROUND, AnswerFile
from srd_edge.evaluation.contestants import Answer
from srd_edge.kernels.frames import Box


def answers(first: int, count: int) -> list[Answer]:
    return [
        Answer(
            f"caption {number} \n “quoted”",
            alarm=[None, True, False][number % 3],
            suspicion=None if number % 2 else number / 7,
            boxes=(Box(0, 1, number, 4),) * (number % 3),
            captioner_passes=number,
            policy_passes=2,
        )
        for number in range(first, first + count)
    ]


def test_what_was_added_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "answers.jsonl"
    file = AnswerFile(path, ROUND + 7)
    assert not path.exists()
    for first, count in ((0, ROUND), (ROUND, 7)):
        assert not file.has(first)
        file.add(answers(first, count))
        assert file.has(first)
    assert AnswerFile(path, ROUND + 7).answers == answers(0, ROUND + 7)


@pytest.mark.parametrize("cut", [1, 40, 3000])
def test_a_round_that_was_cut_off_is_asked_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "answers.jsonl"
    file = AnswerFile(path, 2 * ROUND + 5)
    file.add(answers(0, ROUND))
    kept = path.stat().st_size
    file.add(answers(ROUND, ROUND))
    with path.open("r+b") as stored:
        stored.truncate(path.stat().st_size - cut)
    again = AnswerFile(path, 2 * ROUND + 5)
    assert again.answers == answers(0, ROUND)
    assert again.has(0)
    assert not again.has(ROUND)
    assert path.stat().st_size == kept
    again.add(answers(ROUND, ROUND))
    assert AnswerFile(path, 2 * ROUND + 5).answers == answers(0, 2 * ROUND)


def test_a_last_round_may_be_short_but_must_be_whole(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    file = AnswerFile(path, ROUND + 5)
    file.add(answers(0, ROUND))
    file.add(answers(ROUND, 4))
    assert AnswerFile(path, ROUND + 5).answers == answers(0, ROUND)
