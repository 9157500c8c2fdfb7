"""What the learner remembers: transitions of one step or several, drawn evenly or by their errors.

Features are kept as float16, which halves the memory; they leave as they came in.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

ALPHA: Final = 0.6
BETA_FIRST: Final = 0.4
"""Of proportional prioritisation (Schaul et al., arXiv 1511.05952, table 3)."""
_LEAST_ERROR: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of one episode, or several in a row.

    Args:
        features, coverage: the observation, (N, C) float16 and (rows, columns) float32.
        action: the index that was taken.
        reward: the gain in semantic fidelity less the action's cost; of several steps the
            discounted sum.
        next_features, next_coverage: the observation after it; None where the episode ended.
    """

    features: NDArray[np.float16]
    coverage: NDArray[np.float32]
    action: int
    reward: float
    next_features: NDArray[np.float16] | None
    next_coverage: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Drawn:
    """Transitions drawn from a replay.

    Args:
        places: (B,) int64, where they are; good until another is added.
        transitions: B of them.
        weights: (B,) float32 in 0..1, what each one's loss counts.
    """

    places: NDArray[np.int64]
    transitions: list[Transition]
    weights: NDArray[np.float32]


class Replay:
    """The last ``capacity`` transitions, drawn evenly and with replacement."""

    def __init__(self, capacity: int) -> None:
        self._kept: deque[Transition] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, transition: Transition) -> None:
        self._kept.append(transition)

    def sample(self, size: int, progress: float, rng: np.random.Generator) -> Drawn:  # noqa: ARG002 - protocol
        """Draw ``size`` transitions; ``progress`` is the share of the training that is done."""
        places = rng.integers(len(self), size=size)
        return self._drawn(places, np.ones(size, np.float32))

    def learned(self, drawn: Drawn, errors: NDArray[np.float32]) -> None:
        """Take note of the (B,) absolute temporal-difference errors that ``drawn`` had."""

    def _drawn(self, places: NDArray[np.int64], weights: NDArray[np.float32]) -> Drawn:
        return Drawn(places, [self._kept[i] for i in places], weights)


class PrioritisedReplay(Replay):
    """Drawn in proportion to the last error to the power ``ALPHA`` (Schaul et al., 1511.05952).

    A new transition gets the highest priority so far, so that each is drawn soon. The weights

        w = (size * P)^-beta / max w,   beta from ``BETA_FIRST`` to 1 as the training goes on

    undo the bias that uneven drawing brings.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._priorities: deque[float] = deque(maxlen=capacity)
        self._highest = 1.0

    def add(self, transition: Transition) -> None:
        super().add(transition)
        self._priorities.append(self._highest)

    def sample(self, size: int, progress: float, rng: np.random.Generator) -> Drawn:
        priorities = np.fromiter(self._priorities, np.float64, len(self))
        shares = priorities / priorities.sum()
        places = rng.choice(len(self), size=size, p=shares)
        beta = BETA_FIRST + min(progress, 1.0) * (1 - BETA_FIRST)
        weights = (len(self) * shares[places]) ** -beta
        return self._drawn(places, (weights / weights.max()).astype(np.float32))

    def learned(self, drawn: Drawn, errors: NDArray[np.float32]) -> None:
        priorities = ((errors + _LEAST_ERROR) ** ALPHA).tolist()
        for place, priority in zip(drawn.places, priorities, strict=True):
            self._priorities[place] = priority
        self._highest = max(self._highest, *priorities)


class MultiStep:
    """Joins the steps of each sub-environment to transitions of ``steps`` steps.

        reward = sum over k < steps of discount^k r_k,   then the observation ``steps`` steps on

    (as in Rainbow, arXiv 1710.02298: no correction for actions that were explored). The last steps
    of an episode give shorter ones that end with it, so that every transition that goes on is
    exactly ``steps`` long, and none reaches into the next episode.
    """

    def __init__(self, steps: int, discount: float) -> None:
        self.steps, self.discount = steps, discount
        self._pending: defaultdict[int, list[Transition]] = defaultdict(list)

    def add(self, row: int, step: Transition) -> list[Transition]:
        """What is complete now that sub-environment ``row`` made ``step``, the oldest first."""
        pending = self._pending[row]
        pending.append(step)
        if step.next_features is None:
            del self._pending[row]
            return [self._joined(pending[i:]) for i in range(len(pending))]
        if len(pending) < self.steps:
            return []
        complete = self._joined(pending)
        del pending[0]
        return [complete]

    def _joined(self, run: Sequence[Transition]) -> Transition:
        reward = sum(self.discount**k * step.reward for k, step in enumerate(run))
        return replace(
            run[0],
            reward=reward,
            next_features=run[-1].next_features,
            next_coverage=run[-1].next_coverage,
        )
