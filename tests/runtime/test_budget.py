"""The budget's arithmetic, on a clock that only the test moves."""

from __future__ import annotations

import math

import pytest

from srd_edge.errors import UsageError
from srd_edge.runtime.budget import FrameTimer, LatencyBudget, StageCosts
from tests.runtime.clocks import Clock


@pytest.mark.parametrize("frame_ms", [0, -1.0, math.nan, math.inf, 1e9])
def test_a_budget_is_above_zero_and_ends(frame_ms: float) -> None:
    with pytest.raises(UsageError, match="budget above 0"):
        LatencyBudget(frame_ms)


def test_stages_add_up_and_are_learned() -> None:
    clock, costs = Clock(), StageCosts()
    timer = FrameTimer(LatencyBudget(100), costs, clock)
    for ms in (10, 20):
        with timer.stage("encode"):
            clock.spend(ms)
    clock.spend(5)
    assert timer.stage_ms == pytest.approx({"encode": 30})
    assert timer.total_ms == pytest.approx(35)
    # A running mean of the calls (10, then a tenth of the way to 20), and a quarter more.
    assert costs.expected_ms("encode", "never seen") == pytest.approx(1.25 * 11)


def test_costs_can_be_doubted_and_forgotten() -> None:
    clock, costs = Clock(), StageCosts({"encode": 100.0, "decode": 10.0})
    costs.doubt("encode", "never seen")
    assert costs.means_ms == pytest.approx({"encode": 90, "decode": 10})
    with FrameTimer(LatencyBudget(), costs, clock).stage("decode", learn=False):
        clock.spend(999)
    assert costs.means_ms["decode"] == 10
    costs.forget()
    assert costs.expected_ms("encode", "decode") == 0


def test_the_deadline_counts_from_the_start() -> None:
    clock = Clock()
    timer = FrameTimer(LatencyBudget(10), StageCosts(), clock)
    clock.spend(4)
    assert timer.deadline_s == pytest.approx(clock.now_s + 0.006)
    assert timer.within_budget is True
    clock.spend(7)
    assert timer.within_budget is False


def test_it_affords_what_fits_with_a_margin() -> None:
    clock, costs = Clock(), StageCosts({"encode": 8.0, "decode": 8.0})
    timer = FrameTimer(LatencyBudget(20.001), costs, clock)
    assert timer.affords("encode", "decode")  # 1.25 * 16
    clock.spend(1)
    assert not timer.affords("encode", "decode")
    assert timer.affords("encode")


def test_without_a_budget_everything_is_afforded() -> None:
    clock = Clock()
    timer = FrameTimer(LatencyBudget(), StageCosts({"encode": 1e9}), clock)
    clock.spend(1e9)
    assert timer.affords("encode")
    assert timer.within_budget is None
    assert timer.deadline_s == math.inf
