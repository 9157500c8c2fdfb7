"""A policy that wants what it is told to want, and pictures for it to look at."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.actions import DEFAULT_TABLE
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.records import Observation
from tests.runtime.clocks import Clock

POLICY_MS = 2
TABLE = DEFAULT_TABLE
FIRST, SECOND = 3, 80  # an occlusion and a noise


@dataclass
class Fixed:
    """Wants ``wanted`` in that order, then stops; takes ``cost_ms`` a look."""

    wanted: tuple[int, ...]
    clock: Clock = field(default_factory=Clock)
    cost_ms: float = POLICY_MS
    looks: int = 0

    def q_values(self, _: Observation) -> NDArray[np.float32]:
        self.clock.spend(self.cost_ms)
        self.looks += 1
        values = np.full(len(TABLE), -1, np.float32)
        values[-1] = 0
        values[list(self.wanted)] = 1 - np.arange(len(self.wanted)) / 100
        return values


def picture(seed: int = 0, size: tuple[int, int] = (40, 60)) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
