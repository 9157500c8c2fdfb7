"""Replay and multi-step returns, each against a slow, obvious reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from srd_edge.training.replay import (
    ALPHA,
    BETA_FIRST,
    Drawn,
    MultiStep,
    PrioritisedReplay,
    Replay,
    Transition,
)


def step(number: int, reward: float = 0.0, *, over: bool = False) -> Transition:
    """A step from observation ``number`` to the next, told apart by their features."""
    return Transition(
        features=np.full((2, 1), number, np.float16),
        coverage=np.full((1, 1), number, np.float32),
        action=number % 7,
        reward=reward,
        next_features=None if over else np.full((2, 1), number + 1, np.float16),
        next_coverage=None if over else np.full((1, 1), number + 1, np.float32),
    )


def number_of(transition: Transition) -> int:
    return int(transition.features[0, 0])


@pytest.mark.parametrize("kind", [Replay, PrioritisedReplay])
def test_the_oldest_makes_room(kind: type[Replay]) -> None:
    replay = kind(5)
    for number in range(8):
        replay.add(step(number))
    drawn = replay.sample(500, 0.5, np.random.default_rng(0))
    assert len(replay) == 5
    assert {number_of(t) for t in drawn.transitions} == {3, 4, 5, 6, 7}
    assert [number_of(t) - 3 for t in drawn.transitions] == drawn.places.tolist()
    # Before any error is known, both draw evenly.
    assert drawn.weights.tolist() == [1.0] * 500
    assert np.bincount(drawn.places).min() > 60


def test_draws_are_in_proportion_to_the_errors() -> None:
    replay = PrioritisedReplay(4)
    for number in range(4):
        replay.add(step(number))
    rng = np.random.default_rng(0)
    errors = np.array([0.0, 0.1, 0.5, 2.0], np.float32)
    replay.learned(all_of(replay, rng), errors)
    expected = (errors + 1e-3) ** ALPHA / ((errors + 1e-3) ** ALPHA).sum()
    for progress, beta in [(0.0, BETA_FIRST), (0.5, (BETA_FIRST + 1) / 2), (1.2, 1.0)]:
        drawn = replay.sample(20_000, progress, rng)
        shares = np.bincount(drawn.places, minlength=4) / 20_000
        assert shares == pytest.approx(expected, abs=0.01)
        weights = (4 * expected[drawn.places]) ** -beta
        assert drawn.weights == pytest.approx(weights / weights.max(), rel=1e-5)
    # At the end of the training the weights make up for the draws.
    assert np.bincount(drawn.places, drawn.weights) / drawn.weights.sum() == pytest.approx(
        np.full(4, 0.25), abs=0.06
    )


def all_of(replay: PrioritisedReplay, rng: np.random.Generator) -> Drawn:
    while True:
        drawn = replay.sample(4, 0.0, rng)
        if drawn.places.tolist() == [0, 1, 2, 3]:
            return drawn


def test_a_new_transition_has_the_highest_priority_so_far() -> None:
    replay = PrioritisedReplay(3)
    rng = np.random.default_rng(0)
    replay.add(step(0))
    replay.learned(replay.sample(1, 0.0, rng), np.array([9.0], np.float32))
    replay.learned(replay.sample(1, 0.0, rng), np.array([0.0], np.float32))
    replay.add(step(1))
    drawn = replay.sample(4000, 0.0, rng)
    assert drawn.places.mean() == pytest.approx(9**ALPHA / (9**ALPHA + 0.001**ALPHA), abs=0.02)


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_multi_step_against_whole_episodes(steps: int) -> None:
    """Interleaved episodes of 1 to 5 steps in four sub-environments."""
    rng = np.random.default_rng(steps)
    multi_step = MultiStep(steps, 0.9)
    running: dict[int, list[Transition]] = {row: [] for row in range(4)}
    expected, found = [], []
    for number in range(0, 2000, 5):
        row = int(rng.integers(4))
        episode = running[row]
        latest = step(number + len(episode), float(rng.normal()), over=bool(rng.random() < 0.4))
        episode.append(latest)
        found += multi_step.add(row, latest)
        if latest.next_features is None:
            expected += [joined(episode[i : i + steps], 0.9) for i in range(len(episode))]
            running[row] = []
    expected += [
        joined(episode[i : i + steps], 0.9)
        for episode in running.values()
        for i in range(len(episode) - steps + 1)
    ]
    assert len(found) > 300
    np.testing.assert_allclose(sorted(map(facts, found)), sorted(map(facts, expected)))


def joined(run: Sequence[Transition], discount: float) -> Transition:
    total = 0.0
    for later in reversed(run):
        total = later.reward + discount * total
    first, last = run[0], run[-1]
    return Transition(
        first.features, first.coverage, first.action, total, last.next_features, last.next_coverage
    )


def facts(transition: Transition) -> tuple[float, ...]:
    after, covered = transition.next_features, transition.next_coverage
    return (
        float(transition.features[0, 0]),
        float(transition.coverage[0, 0]),
        float(transition.action),
        transition.reward,
        -1.0 if after is None else float(after[0, 0]),
        -1.0 if covered is None else float(covered[0, 0]),
    )
