"""The policy on the device: Q-values of an observation, and what they mean."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.actions import ActionTable
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.records import Observation, logistic
from srd_edge.runtime.sessions import Provider, open_session
from srd_edge.runtime.tensorrt_provider import options_for, warm_up


class Policy(Protocol):
    """Anything that values actions: the bundle's Q-network, or a control in an evaluation."""

    def q_values(self, observation: Observation) -> NDArray[np.float32]:
        """(A,) float32, one value for each action of the table."""
        ...


class OnnxPolicy:
    """The bundle's Q-network.

    Args:
        bundle: a verified bundle with a policy.
        provider, strict: as in ``open_session``.
    """

    def __init__(
        self, bundle: Bundle, provider: Provider = "auto", *, strict: bool = False
    ) -> None:
        if bundle.manifest.policy is None:
            raise ValueError("the bundle holds no policy")
        path = bundle.path(bundle.manifest.policy.file)
        # Waking a second thread costs more than it computes in a graph this small.
        told = partial(options_for, bundle, "policy")
        opened = open_session(path, provider, strict=strict, threads=1, tensorrt=told)
        warm_up(opened, bundle, "policy")
        self._session, self.fallback = opened.session, opened.fallback

    def q_values(self, observation: Observation) -> NDArray[np.float32]:
        feed = {
            "encoder_hidden_states": observation.features[None],
            "coverage": observation.coverage[None],
        }
        values: NDArray[np.float32] = self._session.run(["q_values"], feed)[0][0]
        return values


def choose(values: NDArray[np.float32], taken: Collection[int]) -> int:
    """The best action that was not taken yet."""
    allowed = values.copy()
    allowed[list(taken)] = -np.inf
    return int(allowed.argmax())


def suspicion(values: NDArray[np.float32], stop: int | None, temperature: float) -> float:
    """How sure the policy is that something must be done, in 0..1.

    The logistic function of the best perturbation's advantage over stop: 0.5 where they are worth
    the same. Without a stop action nothing can be told, and the answer is 0.5.
    """
    if stop is None:
        return 0.5
    advantage = float(np.delete(values, stop).max() - values[stop])
    return logistic(advantage / temperature)


def q_map(values: NDArray[np.float32], table: ActionTable) -> NDArray[np.float32] | None:
    """Where the policy sees something: each cell's best advantage over stop.

    Args:
        values: (len(table),) float32 Q-values.
        table: what they value.

    Returns:
        (rows, columns) float32, in the reward's unit; above 0 where a perturbation is worth more
        than leaving the picture as it is. None where nothing can be told: for a table without
        regional actions or without stop.
    """
    if not table.regional or table.stop_index is None:
        return None
    regional = values[: len(table.regional) * table.cells]
    best = regional.reshape(len(table.regional), table.rows, table.columns).max(axis=0)
    advantage: NDArray[np.float32] = best - values[table.stop_index]
    return advantage
