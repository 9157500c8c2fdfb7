"""The bundle's own defence as a contestant, and the policies that a trained one must beat.

What answers here is the runtime's `Defender`, frame by frame: what is measured is what ships. The
controls put another policy in the Q-network's place: chance, and the same network before training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from srd_edge.evaluation.contestants import Answer, Case
from srd_edge.runtime.defender import Defender
from srd_edge.runtime.manifest import Manifest
from srd_edge.runtime.policy import Policy
from srd_edge.runtime.records import Observation
from srd_edge.runtime.reference import ReferenceCaptioner
from srd_edge.training.qnetwork import QNetwork, QNetworkConfig


class SeededPolicy(Policy, Protocol):
    """A policy that is drawn at random."""

    def begin(self, seed: int, number: int) -> None:
        """Get ready for picture ``number``: what follows depends on nothing but the two."""
        ...


@dataclass(slots=True)
class RandomPolicy:
    """Every action is as good as any other, stop included."""

    actions: int
    seed: int = 0
    _rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def begin(self, seed: int, number: int) -> None:
        self.seed = seed
        self._rng = np.random.default_rng([seed, number])

    def q_values(self, _: Observation) -> NDArray[np.float32]:
        return self._rng.random(self.actions, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class TorchPolicy:
    """A Q-network in PyTorch."""

    network: QNetwork

    @torch.inference_mode()
    def q_values(self, observation: Observation) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self.network(
            torch.from_numpy(observation.features)[None],
            torch.from_numpy(observation.coverage)[None],
        )[0].numpy()
        return values


def untrained_policy(manifest: Manifest, seed: int = 0) -> TorchPolicy:
    """The bundle's Q-network with the weights that training begins with."""
    torch.manual_seed(seed)
    spec = manifest.observation
    assert spec is not None
    config = QNetworkConfig(spec.rows, spec.columns, spec.channels)
    return TorchPolicy(QNetwork(config, manifest.actions).eval())


@dataclass(slots=True)
class UntrainedPolicy:
    """The untrained network of whichever seed is asked for."""

    manifest: Manifest
    _seed: int = 0
    _policy: TorchPolicy = field(init=False)

    def __post_init__(self) -> None:
        self._policy = untrained_policy(self.manifest, self._seed)

    def begin(self, seed: int, number: int) -> None:  # noqa: ARG002 - protocol
        if seed != self._seed:
            self._seed, self._policy = seed, untrained_policy(self.manifest, seed)

    def q_values(self, observation: Observation) -> NDArray[np.float32]:
        return self._policy.q_values(observation)


@dataclass(frozen=True, slots=True)
class DefenderContestant:
    """The runtime's defender.

    Args:
        defender: without a time budget.
        policy: the one that the defender was made with, if it is drawn at random.
    """

    defender: Defender
    policy: SeededPolicy | None = None

    @property
    def seeded(self) -> bool:
        return self.policy is not None

    def answer(self, cases: Sequence[Case], seed: int) -> list[Answer]:
        return [self._answer(case, seed) for case in cases]

    def _answer(self, case: Case, seed: int) -> Answer:
        if self.policy is not None:
            self.policy.begin(seed, case.frame.index)
        result = self.defender.caption(case.frame)
        if result.suspicion is None:  # nobody has looked
            return Answer(result.caption or "")
        decision, opinion = result.decision, result.opinion
        was_examined = opinion is not None and opinion.contradiction is not None
        check = self.defender.bundle.manifest.check
        answered = check.answer_passes if check and result.speaker == "reference" else 0
        return Answer(
            caption=result.caption or "",
            alarm=result.verdict != "clean",
            suspicion=result.suspicion,
            boxes=tuple(action.box for action in result.actions),
            captioner_passes=1 + len(result.actions) + was_examined + answered,
            policy_passes=0 if decision is None else decision.passes,
        )


@dataclass(frozen=True, slots=True)
class NeverActs:
    """A policy that stops at once: what is left of the defence is its check."""

    stop: int
    actions: int

    def q_values(self, _: Observation) -> NDArray[np.float32]:
        values = np.full(self.actions, -1.0, np.float32)
        values[self.stop] = 0.0
        return values


@dataclass(frozen=True, slots=True)
class ReferenceAlone:
    """The reference captioner in the suspect's place, for every picture."""

    reference: ReferenceCaptioner

    @property
    def seeded(self) -> bool:
        return False

    def answer(self, cases: Sequence[Case], seed: int) -> list[Answer]:  # noqa: ARG002 - protocol
        return [
            Answer(self._caption(case), captioner_passes=self.reference.passes) for case in cases
        ]

    def _caption(self, case: Case) -> str:
        return self.reference.answer(self.reference.canvas(case.frame)).text
