"""Time that only a test moves, and defenders that go by it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from srd_edge import Defender
from srd_edge.runtime.budget import LatencyBudget
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.workers import AtOnce


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def spend(self, ms: float) -> None:
        self.now_s += ms / 1e3


def after(calls: int) -> Callable[[], bool]:
    """Time that is up after so many looks at the clock."""
    looks = itertools.count(1)
    return lambda: next(looks) > calls


def metered(bundle: Bundle, clock: Clock, budget_ms: float, **options: Any) -> Defender:
    """Takes the time that the clock says, and nothing goes on behind the frames."""
    budget = LatencyBudget(budget_ms)
    return Defender(bundle, budget=budget, clock=clock, worker=AtOnce, **options)
