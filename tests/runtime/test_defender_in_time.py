"""The defender inside a budget: never undefended, and held where the time is too short."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge import Defender, Frame, Result
from srd_edge.kernels.actions import apply_action
from srd_edge.kernels.frames import Box, Pixels
from srd_edge.runtime import captioning as captioning_module
from srd_edge.runtime import defence as defence_module
from srd_edge.runtime import pipeline as pipeline_module
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.decoders import Encoded, State
from srd_edge.runtime.records import Observation
from srd_edge.runtime.search import Search
from tests.runtime.clocks import Clock, metered
from tests.runtime.fixed_policy import FIRST, POLICY_MS, SECOND, Fixed, picture

ENCODE_MS, TOKEN_MS = 10, 1
RANKS = {"policy_steps": 1, "caption_length": 2, "caption": 3}


@pytest.fixture
def bundle(toy_bundle: Path) -> Bundle:
    return read_bundle(toy_bundle)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The only time that passes, for a captioner whose stages have fixed prices."""
    clock = Clock()

    class Metered(OnnxCaptioner):
        def encode(self, canvas: Pixels) -> Encoded:
            clock.spend(ENCODE_MS)
            return super().encode(canvas)

    class MeteredSearch(Search):
        def _next(
            self, state: State, pending: NDArray[np.int64]
        ) -> tuple[NDArray[np.float32], State]:
            clock.spend(TOKEN_MS)
            return super()._next(state, pending)

    monkeypatch.setattr(pipeline_module, "OnnxCaptioner", Metered)
    monkeypatch.setattr(captioning_module, "Search", MeteredSearch)
    return clock


def timed(bundle: Bundle, clock: Clock, wanted: tuple[int, ...], budget_ms: float) -> Defender:
    policy = Fixed(wanted, clock)
    return metered(bundle, clock, budget_ms, policy=policy)


def rank(result: Result) -> int:
    return max((RANKS[name] for name in result.degraded), default=0)


def test_the_comparison_is_not_charged(bundle: Bundle, clock: Clock) -> None:
    plain, compared = (
        timed(bundle, clock, (FIRST,), 100).caption(picture(), compare=compare)
        for compare in (False, True)
    )
    assert compared.raw_caption is not None
    assert compared.total_ms == pytest.approx(plain.total_ms)
    assert compared.stage_ms == pytest.approx(plain.stage_ms)
    tokens_ms = plain.stage_ms["decode"]
    assert plain.total_ms == pytest.approx(2 * ENCODE_MS + 2 * POLICY_MS + tokens_ms)


def test_the_ladder_gives_up_the_least_valuable_first(bundle: Bundle, clock: Clock) -> None:
    full = timed(bundle, clock, (FIRST, SECOND), 1e6).caption(picture())
    one_step = timed(bundle, clock, (FIRST,), 1e6).caption(picture())
    captions = {2: full.caption or "", 1: one_step.caption or ""}
    assert min(len(caption.split()) for caption in captions.values()) > 3
    ranks = []
    for budget_ms in range(1, 64, 2):
        result = timed(bundle, clock, (FIRST, SECOND), budget_ms).caption(picture())
        ranks.append(rank(result))
        assert result.within_budget is (result.total_ms <= budget_ms)
        if result.verdict == "held":
            assert (result.caption, result.held_for, rank(result)) == (None, None, 3)
            continue
        # Never undefended: what was given up is the second step, not the first.
        assert result.verdict == "suspicious"
        assert result.total_ms <= budget_ms + TOKEN_MS
        assert ("policy_steps" in result.degraded) is (len(result.actions) == 1)
        words, whole = (result.caption or "").split(), captions[len(result.actions)].split()
        assert words
        assert words == whole[: len(words)]
        assert ("caption_length" in result.degraded) is (len(words) < len(whole))
    assert ranks == sorted(ranks, reverse=True)
    assert set(ranks) == {0, 1, 2, 3}


@pytest.mark.parametrize("wanted", [(FIRST,), ()])
def test_a_late_frame_is_held_with_the_last_trusted_caption(
    bundle: Bundle, clock: Clock, wanted: tuple[int, ...]
) -> None:
    policy = Fixed(wanted, clock)
    defender = metered(bundle, clock, 60, policy=policy)
    policy.cost_ms = 1e3
    none_yet = defender.caption(Frame(picture(1), 0))
    assert (none_yet.verdict, none_yet.caption, none_yet.held_for) == ("held", None, None)
    policy.cost_ms = POLICY_MS
    trusted = defender.caption(Frame(picture(2), 3))
    assert trusted.verdict != "held"
    policy.cost_ms = 1e3
    for index in (4, 9):
        held = defender.caption(Frame(picture(3), index))
        assert (held.verdict, held.caption) == ("held", trusted.caption)
        assert (held.held_for, held.actions, held.degraded) == (index - 3, (), ("caption",))
        assert held.within_budget is False
    policy.cost_ms = POLICY_MS
    assert defender.caption(Frame(picture(2), 10)).caption == trusted.caption


def test_no_caption_is_held_across_files(bundle: Bundle, clock: Clock) -> None:
    policy = Fixed((FIRST,), clock)
    defender = metered(bundle, clock, 60, policy=policy)
    assert defender.caption(Frame(picture(), 0)).caption
    policy.cost_ms = 1e3
    assert defender.caption(Frame(picture(), 1)).caption
    defender.forget()
    held = defender.caption(Frame(picture(), 2))
    assert (held.verdict, held.caption, held.held_for) == ("held", None, None)


def test_no_caption_is_held_across_sources(bundle: Bundle, clock: Clock) -> None:
    policy = Fixed((FIRST,), clock)
    defender = metered(bundle, clock, 60, policy=policy)
    trusted = [defender.caption(Frame(picture(n), 7 * n), source=n).caption for n in (0, 1)]
    assert all(trusted)
    policy.cost_ms = 1e3
    defender.caption(Frame(picture(3), 8), source=1)
    defender.forget(0)
    held = [defender.caption(Frame(picture(3), 10), source=n) for n in (0, 1, 2)]
    assert [result.caption for result in held] == [None, trusted[1], None]
    assert [result.held_for for result in held] == [None, 3, None]


def test_a_cold_first_run_is_not_what_a_stage_costs(bundle: Bundle, clock: Clock) -> None:
    @dataclass
    class ColdOnce(Fixed):
        def q_values(self, observation: Observation) -> NDArray[np.float32]:
            if not self.looks:
                self.clock.spend(1e4)
            return super().q_values(observation)

    policy = ColdOnce((FIRST, SECOND), clock)
    defender = metered(bundle, clock, 200, policy=policy)
    assert defender.caption(picture()).degraded == ()


def test_a_spike_does_not_hold_every_frame_after_it(
    bundle: Bundle, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_ms = 0.0

    def apply(*arguments: Any) -> Box | None:
        clock.spend(slow_ms)
        return apply_action(*arguments)

    monkeypatch.setattr(defence_module, "apply_action", apply)
    defender = timed(bundle, clock, (FIRST,), 100)
    slow_ms = 5000.0
    assert defender.caption(picture()).within_budget is False
    slow_ms = 0.0
    verdicts = [defender.caption(Frame(picture(), i)).verdict for i in range(1, 60)]
    assert verdicts[0] == "held"
    assert verdicts[-20:] == ["suspicious"] * 20


def test_an_undefended_run_keeps_its_budget_too(bundle: Bundle, clock: Clock) -> None:
    defender = metered(bundle, clock, ENCODE_MS + 6, defend=False)
    result = defender.caption(picture())
    assert result.total_ms <= ENCODE_MS + 6 + TOKEN_MS
    assert result.degraded in (("caption_length",), ("caption",))
