"""The defender: every frame is defended or held, whatever its size and however short the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge import Defender, Frame, Result
from srd_edge.errors import BundleError, UsageError
from srd_edge.kernels.actions import DEFAULT_TABLE, ActionTable, Perturbation, apply_action
from srd_edge.kernels.frames import Box, Pixels
from srd_edge.runtime import captioning as captioning_module
from srd_edge.runtime import defence as defence_module
from srd_edge.runtime import pipeline as pipeline_module
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.decoders import Encoded, State
from srd_edge.runtime.policy import OnnxPolicy
from srd_edge.runtime.records import Observation
from srd_edge.runtime.search import Search
from tests.runtime.clocks import Clock, metered

ENCODE_MS, POLICY_MS, TOKEN_MS = 10, 2, 1
TABLE = DEFAULT_TABLE
FIRST, SECOND = 3, 80  # an occlusion and a noise
WHOLE = range(4 * TABLE.cells, len(TABLE) - 1)
RANKS = {"policy_steps": 1, "caption_length": 2, "caption": 3}


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


def picture(seed: int = 0, size: tuple[int, int] = (40, 60)) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def timed(bundle: Bundle, clock: Clock, wanted: tuple[int, ...], budget_ms: float) -> Defender:
    policy = Fixed(wanted, clock)
    return metered(bundle, clock, budget_ms, policy=policy)


def rank(result: Result) -> int:
    return max((RANKS[name] for name in result.degraded), default=0)


@pytest.mark.parametrize(
    ("wanted", "verdict", "looks"),
    [((), "clean", 1), ((FIRST,), "suspicious", 2), ((FIRST, SECOND), "suspicious", 2)],
)
def test_the_policy_is_followed_until_it_stops(
    bundle: Bundle, wanted: tuple[int, ...], verdict: str, looks: int
) -> None:
    policy = Fixed(wanted)
    defender = Defender(bundle, policy=policy)
    policy.looks = 0
    result = defender.caption(picture(), compare=True)
    assert (result.verdict, policy.looks) == (verdict, looks)
    assert [action.op for action in result.actions] == [TABLE[action].op for action in wanted]
    assert result.suspicion is not None
    assert (result.suspicion > 0.5) is bool(wanted)
    undefended = Defender(bundle, defend=False).caption(picture())
    assert result.raw_caption == undefended.caption
    assert (undefended.verdict, undefended.suspicion, undefended.actions) == ("clean", None, ())
    if verdict == "clean":
        assert result.caption == result.raw_caption


@pytest.mark.parametrize("max_steps", [1, 2, 3])
def test_no_more_steps_than_the_bundle_allows(bundle: Bundle, max_steps: int) -> None:
    assert bundle.manifest.policy is not None
    spec = replace(bundle.manifest.policy, max_steps=max_steps)
    bundle = replace(bundle, manifest=replace(bundle.manifest, policy=spec))
    defender = Defender(bundle, policy=Fixed((0, 1, 2, 3, 4)))
    assert len(defender.caption(picture()).actions) == max_steps


def test_a_bundle_without_a_policy_cannot_defend(bundle: Bundle) -> None:
    bare = replace(bundle, manifest=replace(bundle.manifest, policy=None))
    with pytest.raises(UsageError, match="--no-defense"):
        Defender(bare)
    assert Defender(bare, defend=False).caption(picture()).verdict == "clean"


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (32, 32), (33, 17), (7, 640)])
@pytest.mark.parametrize("action", [0, 24, 99, *WHOLE])
def test_boxes_are_in_the_frames_own_pixels(
    bundle: Bundle, size: tuple[int, int], action: int
) -> None:
    height, width = size
    pixels = picture(size=size)
    before = pixels.copy()
    result = Defender(bundle, policy=Fixed((action,))).caption(pixels)
    assert np.array_equal(pixels, before), "the caller's picture was painted on"
    (applied,) = result.actions
    box = applied.box
    assert 0 <= box.left <= box.right <= width
    assert 0 <= box.top <= box.bottom <= height
    if action in WHOLE:
        assert (box.left, box.top, box.right, box.bottom) == (0, 0, width, height)
    elif min(size) > 3:
        # The canvas has 32 pixels a side; one of them is the most that rounding moves an edge.
        truth = TABLE.box(TABLE[action], width, height)
        assert abs(box.left - truth.left) <= width / 32 + 1
        assert abs(box.bottom - truth.bottom) <= height / 32 + 1


def test_the_same_frame_gives_the_same_result(bundle: Bundle) -> None:
    def once(defender: Defender, frame: Frame) -> Result:
        return replace(defender.caption(frame), stage_ms={}, total_ms=0.0)

    policy = Fixed((SECOND,))  # noise
    defender = Defender(bundle, policy=policy)
    frame = Frame(picture(), 5, 0.2)
    first = once(defender, frame)
    once(defender, Frame(picture(1), 6, 0.3))
    assert once(defender, frame) == first == once(Defender(bundle, policy=policy), frame)


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


def with_actions(table: ActionTable) -> Callable[[Bundle], Bundle]:
    return lambda bundle: replace(bundle, manifest=replace(bundle.manifest, actions=table))


def with_part(part: str, **changes: Any) -> Callable[[Bundle], Bundle]:
    def change(bundle: Bundle) -> Bundle:
        changed = replace(getattr(bundle.manifest, part), **changes)
        return replace(bundle, manifest=replace(bundle.manifest, **{part: changed}))

    return change


MISFITS: dict[str, tuple[Callable[[Bundle], Bundle], str]] = {
    "output name": (with_part("observation", tensor="features"), "features"),
    "layers": (with_part("captioner", layers=3), "present.2"),
    "heads": (with_part("captioner", heads=3), "Exception|[Ii]nvalid"),
    "start token": (with_part("generation", prompt=[1 << 20]), "bounds"),
    "suppressed token": (with_part("generation", suppress=(1 << 20,)), "IndexError"),
    "table of another size": (
        with_actions(replace(TABLE, whole=TABLE.whole[1:])),
        r"108 actions.*\(109,\)",
    ),
    "nothing but stop": (with_actions(ActionTable(5, 5, (), ())), "0 perturbations"),
    "strength": (
        with_actions(replace(TABLE, whole=(*TABLE.whole[1:], Perturbation("jpeg", 1e3)))),
        "1000.0",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_bundle_whose_parts_do_not_fit_is_refused_at_once(bundle: Bundle, name: str) -> None:
    change, words = MISFITS[name]
    with pytest.raises(BundleError, match=words) as caught:
        Defender(change(bundle))
    assert "\n" not in str(caught.value)


def test_the_policys_fallback_is_told_too(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Defender(bundle, provider="cpu").fallback is None

    class Elsewhere(OnnxPolicy):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.fallback = "running on cpu: the policy alone"

    monkeypatch.setattr(pipeline_module, "OnnxPolicy", Elsewhere)
    assert Defender(bundle, provider="cpu").fallback == "running on cpu: the policy alone"


def test_an_undefended_run_keeps_its_budget_too(bundle: Bundle, clock: Clock) -> None:
    defender = metered(bundle, clock, ENCODE_MS + 6, defend=False)
    result = defender.caption(picture())
    assert result.total_ms <= ENCODE_MS + 6 + TOKEN_MS
    assert result.degraded in (("caption_length",), ("caption",))
