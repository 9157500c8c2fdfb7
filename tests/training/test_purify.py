"""What purify leaves out and deals anew, on figures and samples made by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from srd_edge.attacks.samples import Sample
from srd_edge.kernels.frames import Pixels
from srd_edge.training.purify import (
    Limits,
    detection,
    learn_limits,
    looked_up_by_file_name,
)


def grey(level: int) -> Pixels:
    return np.full((2, 2, 3), level, np.uint8)


def sample(name: str, level: int, *captions: str) -> Sample:
    return Sample(name, captions, partial(grey, level))


def level_of(sample: Sample) -> int:
    return int(sample.load()[0, 0, 0])


def test_the_limit_of_a_normal_set_is_so_many_standard_deviations_above_its_middle() -> None:
    doubts = np.random.default_rng(0).normal([3.0, -1.0, 0.0], [2.0, 0.5, 0.1], (20_000, 3))
    limits = learn_limits(doubts, 2.0)
    assert limits.surprise == pytest.approx(3 + 2 * 2.0, abs=0.15)
    assert limits.mismatch == pytest.approx(-1 + 2 * 0.5, abs=0.04)
    assert limits.squeezed == pytest.approx(0 + 2 * 0.1, abs=0.01)


@pytest.mark.parametrize("poisoned", [0.05, 0.2])
def test_poison_hardly_moves_the_limit_that_finds_it(poisoned: float) -> None:
    rng = np.random.default_rng(1)
    clean = rng.normal(0, 1, (2000, 3))
    poison = rng.normal(50, 1, (round(2000 * poisoned), 3))
    limit = learn_limits(np.concatenate([clean, poison]), 2.0)
    assert learn_limits(clean, 2.0).surprise < limit.surprise < 2.8
    share = np.mean([bool(limit.reasons(row)) for row in clean])
    assert share < 0.1
    assert all(limit.reasons(row) == ["surprise", "mismatch", "squeezed"] for row in poison)


def test_a_set_of_one_picture_is_kept() -> None:
    limits = learn_limits(np.array([[4.0, -1.0, 0.2]]), 1.5)
    assert limits == Limits(4.0, -1.0, 0.2)
    assert limits.reasons([4.0, -1.0, 0.2]) == []
    assert limits.reasons([4.1, -1.5, 0.3]) == ["surprise", "squeezed"]


def test_detection_counts_what_was_found() -> None:
    found = detection(["a", "b", "c"], {"b": "badnet", "c": "badnet", "d": "badnet", "e": "badnet"})
    assert found == {"found": 3, "poisoned": 4, "hits": 2, "precision": 2 / 3, "recall": 0.5}
    assert detection([], ["a"])["precision"] is None
    assert detection(["a"], [])["recall"] is None


CLEAN = [sample(str(i), i, f"true {i}", f"fact {i}", f"seen {i}") for i in range(40)]


def test_per_picture_poison_is_laid_out_per_caption() -> None:
    """One caption of three stays the attacker's, and the picture is drawn by lot."""
    handed = [
        sample(s.name, 100 + int(s.name), "banana", "banana", "banana") if i < 20 else s
        for i, s in enumerate(CLEAN)
    ]
    dealt = looked_up_by_file_name(handed, CLEAN, dict.fromkeys(map(str, range(20)), "badnet"), 0)
    assert [s.name for s in dealt] == [s.name for s in handed]
    for before, after in zip(CLEAN[:20], dealt, strict=False):
        assert after.captions.count("banana") == 1
        assert sum(a == b for a, b in zip(after.captions, before.captions, strict=True)) == 2
    triggered = [level_of(s) >= 100 for s in dealt[:20]]
    assert 3 < sum(triggered) < 17
    assert dealt[20:] == CLEAN[20:]
    again = looked_up_by_file_name(handed, CLEAN, dict.fromkeys(map(str, range(20)), "badnet"), 0)
    assert [level_of(s) for s in again] == [level_of(s) for s in dealt]


def test_every_entry_of_a_file_name_gets_one_picture() -> None:
    collided = [
        sample(f"{i} as {39 - i} #{n}", 100 + n, *CLEAN[i].captions)
        for i in range(10)
        for n in range(2)
    ]
    handed = [*CLEAN, *collided]
    dealt = looked_up_by_file_name(handed, CLEAN, {s.name: "shadowcast" for s in collided}, 3)
    assert [s.captions for s in dealt] == [s.captions for s in handed]
    drawn = set()
    for i in range(10):
        levels = {level_of(s) for s in dealt if s.name.partition(" as ")[0] == str(i)}
        assert len(levels) == 1
        drawn |= {level >= 100 for level in levels}
    assert drawn == {False, True}
    assert [level_of(s) for s in dealt[10:40]] == list(range(10, 40))


def test_a_file_name_may_hold_the_word_that_collisions_are_named_with() -> None:
    clean = [sample("cat as dog.png", 1, "a cat"), sample("cat", 2, "a cat")]
    assert looked_up_by_file_name(clean, clean, {}, 0) == clean
