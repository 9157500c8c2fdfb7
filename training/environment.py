"""The defence as a gymnasium environment, of one picture or batched over pictures.

One sub-environment holds one picture. An action lays a perturbation over it (masks add up) or
stops; the reward is the gain in semantic fidelity less a small cost for every perturbation, because
each costs an encoder pass on the device. An episode ends with stop or after ``max_steps``
perturbations; then comes the next picture, every one of the pool before any comes again. The batch
moves on by itself, with the next call of ``step`` (NEXT_STEP autoreset).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from srd_edge.kernels.actions import ActionTable, apply_action
from srd_edge.training.fidelity import Reference, SemanticFidelity
from srd_edge.training.suspect import Seen, Suspect

ENVIRONMENT_ID: Final = "srd_edge/Defence-v0"
Observations: TypeAlias = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Pool:
    """The pictures that a policy learns on; nobody says which of them carry a trigger.

    Args:
        canvases: (P, H, W, 3) uint8 RGB at the captioners' own size.
        references: what each picture's caption is held against.
        suspects: the captioners; several teach a policy what their backdoors have in common.
        owners: (P,) which of the suspects captions each picture; all the first one's by default.
    """

    canvases: NDArray[np.uint8]
    references: Sequence[Reference]
    suspects: tuple[Suspect, ...]
    owners: NDArray[np.int64] | None = None

    def look(self, pictures: NDArray[np.int64], canvases: NDArray[np.uint8]) -> Seen:
        """What their own suspects see and say of ``canvases``, states of ``pictures``."""
        if self.owners is None or len(self.suspects) == 1:
            return self.suspects[0].look(canvases)
        owners = self.owners[pictures]
        captions = [""] * len(pictures)
        features: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(pictures)
        for owner in np.unique(owners):
            rows = np.flatnonzero(owners == owner)
            seen = self.suspects[owner].look(canvases[rows])
            for row, caption, feature in zip(rows, seen.captions, seen.features, strict=True):
                captions[row], features[row] = caption, feature
        return Seen(np.stack(features), captions)


@dataclass(slots=True)
class _Episodes:
    """State of the running episodes, one entry a sub-environment."""

    picture: NDArray[np.int64]
    canvases: NDArray[np.uint8]
    score: NDArray[np.float32]
    over: NDArray[np.bool_]
    taken: list[list[int]] = field(default_factory=list)


class DefenceVectorEnv(VectorEnv[Observations, NDArray[np.int64], NDArray[Any]]):
    """See the module's text.

    Observation: dict of ``features`` (N, C) float32 and ``coverage`` (rows, columns) float32.
    Action: an index in ``table``. ``info`` holds ``score`` (B,) the SFS now, and ``captions``.
    """

    def __init__(
        self,
        pool: Pool,
        table: ActionTable,
        fidelity: SemanticFidelity,
        *,
        num_envs: int = 64,
        max_steps: int = 2,
        action_cost: float = 0.1,
    ) -> None:
        self.pool, self.table, self.fidelity = pool, table, fidelity
        self.max_steps, self.action_cost = max_steps, action_cost
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        features = pool.suspects[0].look(pool.canvases[:1]).features[0]
        self.single_observation_space = spaces.Dict(
            {
                "features": spaces.Box(-np.inf, np.inf, features.shape, np.float32),
                "coverage": spaces.Box(0.0, 1.0, (table.rows, table.columns), np.float32),
            }
        )
        self.single_action_space = spaces.Discrete(len(table))
        self._queue = np.empty(0, np.int64)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        if seed is not None:
            self._queue = np.empty(0, np.int64)
        shape = self.pool.canvases.shape[1:]
        self._now = _Episodes(
            picture=np.zeros(self.num_envs, np.int64),
            canvases=np.zeros((self.num_envs, *shape), np.uint8),
            score=np.zeros(self.num_envs, np.float32),
            over=np.ones(self.num_envs, np.bool_),
            taken=[[] for _ in range(self.num_envs)],
        )
        captions: list[str | None] = [None] * self.num_envs
        self._start_new_episodes()
        self._features, scores = self._look(np.arange(self.num_envs), captions)
        self._now.score[:] = scores
        return self._observations(), {"score": scores.copy(), "captions": captions}

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Observations, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        now = self._now
        rewards = np.zeros(self.num_envs, np.float32)
        restarted = now.over.copy()
        captions: list[str | None] = [None] * self.num_envs
        self._start_new_episodes()
        stop = self.table.stop_index
        perturbed = [i for i in range(self.num_envs) if not restarted[i] and actions[i] != stop]
        for i in perturbed:
            apply_action(now.canvases[i], self.table, int(actions[i]), self.np_random)
            now.taken[i].append(int(actions[i]))
        looked = np.array(sorted([*perturbed, *np.flatnonzero(restarted)]), np.int64)
        if len(looked):
            features, scores = self._look(looked, captions)
            self._features[looked] = features
            gains = scores - now.score[looked] - self.action_cost
            rewards[looked] = np.where(restarted[looked], 0.0, gains)
            now.score[looked] = scores
        stopped = ~restarted & (actions == stop)
        full = np.array([len(taken) >= self.max_steps for taken in now.taken])
        terminated = stopped | full
        now.over[:] = terminated
        info = {"score": now.score.copy(), "captions": captions}
        return self._observations(), rewards, terminated, np.zeros_like(terminated), info

    def _start_new_episodes(self) -> None:
        now = self._now
        for i in np.flatnonzero(now.over):
            if not len(self._queue):
                self._queue = self.np_random.permutation(len(self.pool.canvases))
            now.picture[i], self._queue = self._queue[0], self._queue[1:]
            now.canvases[i] = self.pool.canvases[now.picture[i]]
            now.taken[i] = []
        now.over[:] = False

    def _look(
        self, rows: NDArray[np.int64], captions: list[str | None]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        pictures = self._now.picture[rows]
        seen = self.pool.look(pictures, self._now.canvases[rows])
        references = [self.pool.references[i] for i in pictures]
        for row, caption in zip(rows, seen.captions, strict=True):
            captions[row] = caption
        return seen.features, self.fidelity.score(seen.captions, references).numpy()

    def _observations(self) -> Observations:
        coverage = np.stack([self.table.coverage(taken) for taken in self._now.taken])
        return {"features": self._features.copy(), "coverage": coverage}


class DefenceEnv(gymnasium.Env[Observations, np.int64]):
    """One picture at a time: a ``DefenceVectorEnv`` of one, without its autoreset.

    ``info`` holds ``score``, the SFS now, and ``caption``, None where the picture was not captioned
    anew.
    """

    def __init__(
        self,
        pool: Pool,
        table: ActionTable,
        fidelity: SemanticFidelity,
        *,
        max_steps: int = 2,
        action_cost: float = 0.1,
    ) -> None:
        self._batch = DefenceVectorEnv(
            pool, table, fidelity, num_envs=1, max_steps=max_steps, action_cost=action_cost
        )
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        observations, info = self._batch.reset(seed=seed)
        return _only(observations), _only_info(info)

    def step(self, action: np.int64) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        observations, rewards, terminated, truncated, info = self._batch.step(np.array([action]))
        ended = bool(terminated[0]), bool(truncated[0])
        return _only(observations), float(rewards[0]), *ended, _only_info(info)


def _only(observations: Observations) -> Observations:
    return {name: value[0] for name, value in observations.items()}


def _only_info(info: dict[str, Any]) -> dict[str, Any]:
    return {"score": float(info["score"][0]), "caption": info["captions"][0]}


def register() -> None:
    """Make the environments known to gymnasium as ``srd_edge/Defence-v0``.

    Call it before ``gymnasium.make`` or ``make_vec``: gymnasium 1 looks for no entry points.
    """
    if ENVIRONMENT_ID not in gymnasium.registry:
        gymnasium.register(
            ENVIRONMENT_ID,
            entry_point="srd_edge.training.environment:DefenceEnv",
            vector_entry_point="srd_edge.training.environment:DefenceVectorEnv",
        )
