"""The latency budget: a value, a clock, and learned costs of the stages.

The ladder gives up the least valuable thing first: further policy steps, then the caption's
length, then the frame. The defence itself is never given up: a frame that cannot be defended in
time is held, and its caption may come all the same, for the frames after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from srd_edge.errors import UsageError

Clock: TypeAlias = Callable[[], float]
"""Seconds, rising."""

_LONGEST_MS: Final = 86_400_000
"""The system waits for 25 days at most."""
_WEIGHT_OF_NEW: Final = 0.1
_DOUBT: Final = 0.9
_SAFETY: Final = 1.25
"""Learned costs are means; a plan allows a quarter more."""

WHOLE: Final = "whole"
"""The stage of everything that is done for frames that are captioned side by side."""
HAND_OVER: Final = "hand_over"
"""The stage that gives frames to a process of its own."""
TOKEN: Final = "decode_token"
"""The stage that makes one token more."""
LEAST_DECODE: Final = (TOKEN,) * 4
"""A caption shorter than this says nothing; a frame that has no time for it is held."""


@dataclass(frozen=True, slots=True)
class LatencyBudget:
    """Milliseconds from a frame to its caption, at most a day; None for as long as it takes."""

    frame_ms: float | None = None

    def __post_init__(self) -> None:
        if self.frame_ms is not None and not 0 < self.frame_ms <= _LONGEST_MS:
            raise UsageError(
                expected=f"a budget above 0 ms and of at most {_LONGEST_MS} ms, a day",
                found=str(self.frame_ms),
                do="give --budget-ms N, or none for as long as it takes",
            )


@dataclass(slots=True)
class StageCosts:
    """Running means of what each stage costs, in milliseconds."""

    means_ms: dict[str, float] = field(default_factory=dict)

    def learn(self, stage: str, cost_ms: float) -> None:
        old = self.means_ms.get(stage)
        new = cost_ms if old is None else old + _WEIGHT_OF_NEW * (cost_ms - old)
        self.means_ms[stage] = new

    def doubt(self, *stages: str) -> None:
        """Trust the costs of ``stages`` a little less: they were refused for them.

        A stage that is refused does not run, so one bad measurement would refuse it for ever.
        """
        for stage in stages:
            if stage in self.means_ms:
                self.means_ms[stage] *= _DOUBT

    def forget(self) -> None:
        """Start anew, after measurements that say nothing about the frames to come."""
        self.means_ms.clear()

    def expected_ms(self, *stages: str) -> float:
        """What ``stages`` will take together, with a margin; an unknown stage counts nothing.

        A stage that is named twice is run twice.
        """
        return _SAFETY * sum(self.means_ms.get(stage, 0.0) for stage in stages)


class FrameTimer:
    """Times one frame's stages against the budget.

    Args:
        budget: of the frame.
        costs: learned from earlier frames; this frame's stages are added to them. Others may take
            their place, for frames that are captioned side by side.
        clock: injected, so that tests decide what time it is.
        start_s: when the frame's time began, on the clock; None for now.
        spare_s: seconds before the deadline that everything has to be done by.
        runs_over: whether work may go on for later frames, when this one is held. Beyond the
            deadline everything is afforded then.
    """

    def __init__(
        self,
        budget: LatencyBudget,
        costs: StageCosts,
        clock: Clock = time.perf_counter,
        *,
        start_s: float | None = None,
        spare_s: float = 0.0,
        runs_over: bool = False,
    ) -> None:
        self._budget, self.costs, self.clock = budget, costs, clock
        self._spare_ms, self._runs_over, self._unhurried = spare_s * 1e3, runs_over, False
        self.start_s = clock() if start_s is None else start_s
        self.stage_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, *, learn: bool = True) -> Iterator[None]:
        """Time a stage; entered twice, its times add up. Its cost is learned unless told not to."""
        start = self.clock()
        yield
        cost_ms = (self.clock() - start) * 1e3
        self.stage_ms[name] = self.stage_ms.get(name, 0.0) + cost_ms
        if learn:
            self.costs.learn(name, cost_ms)

    @property
    def total_ms(self) -> float:
        return (self.clock() - self.start_s) * 1e3

    @property
    def deadline_s(self) -> float:
        """When the frame is late, on the clock."""
        if self._budget.frame_ms is None:
            return float("inf")
        return self.start_s + self._budget.frame_ms / 1e3

    def affords(self, *stages: str) -> bool:
        """Whether the learned costs of ``stages`` fit into what is left."""
        return self._unhurried or (self._runs_over and self._late) or self.fits(*stages)

    def fits(self, *stages: str) -> bool:
        """Whether ``stages`` would be done in time, even if work may run over."""
        if self._budget.frame_ms is None:
            return True
        needed_ms = self.costs.expected_ms(*stages) + self._spare_ms
        return self.total_ms + needed_ms <= self._budget.frame_ms

    def run_over(self) -> bool:
        """Give the deadline up, so that everything is afforded; False where that may not be."""
        self._unhurried = self._runs_over
        return self._unhurried

    @property
    def within_budget(self) -> bool | None:
        return None if self._budget.frame_ms is None else not self._late

    @property
    def _late(self) -> bool:
        return self._budget.frame_ms is not None and self.total_ms > self._budget.frame_ms
