"""The policy on the device: Q-values of an observation, and what they mean."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.actions import ActionTable
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.graphs import host_value, open_graph
from srd_edge.runtime.records import Observation, logistic
from srd_edge.runtime.sessions import Provider


class Policy(Protocol):
    """Anything that values actions: the bundle's Q-network, or a control in an evaluation."""

    def q_values(self, observation: Observation) -> NDArray[np.float32]:
        """(A,) float32, one value for each action of the table."""
        ...


class OnnxPolicy:
    """The bundle's Q-network.

    Args:
        bundle: a verified bundle with a policy.
        provider, strict: as in ``open_graph``.
    """

    def __init__(
        self, bundle: Bundle, provider: Provider = "auto", *, strict: bool = False
    ) -> None:
        if bundle.manifest.policy is None:
            raise ValueError("the bundle holds no policy")
        # Waking a second thread costs more than it computes in a graph this small.
        self._graph = open_graph(bundle, "policy", provider, strict=strict, threads=1)
        self.fallback = self._graph.fallback

    def q_values(self, observation: Observation) -> NDArray[np.float32]:
        """As in ``Policy``; what an encoder's infinities leave undefined is worth nothing."""
        feed = {
            "encoder_hidden_states": host_value(observation.features[None]),
            "coverage": host_value(observation.coverage[None]),
        }
        (values,) = self._graph.run(["q_values"], feed)
        found = np.array(values.numpy()[0], np.float32)
        return found if np.isfinite(found).all() else np.nan_to_num(found)


def choose(values: NDArray[np.float32], taken: Collection[int]) -> int:
    """The best action that was not taken yet."""
    if not taken:
        return int(values.argmax())
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
    advantage = float(values[choose(values, [stop])] - values[stop])
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
