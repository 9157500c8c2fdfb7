"""Policies that a trained one must beat: chance, and the same network before training."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from srd_edge.runtime.manifest import Manifest
from srd_edge.runtime.records import Observation
from srd_edge.training.qnetwork import QNetwork, QNetworkConfig


@dataclass(slots=True)
class RandomPolicy:
    """Every action is as good as any other, stop included."""

    actions: int
    seed: int = 0
    _rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

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
    config = QNetworkConfig(spec.rows, spec.columns, spec.channels)
    return TorchPolicy(QNetwork(config, manifest.actions).eval())
