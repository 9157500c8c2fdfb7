"""The check inside a budget: no refused caption is ever the answer, however short the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge import Defender, Frame
from srd_edge.kernels.actions import DEFAULT_TABLE
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime import captioning as captioning_module
from srd_edge.runtime import pipeline as pipeline_module
from srd_edge.runtime import reference as reference_module
from srd_edge.runtime import second_opinion as second_opinion_module
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import Generated, OnnxCaptioner
from srd_edge.runtime.check_specs import Limit
from srd_edge.runtime.decoders import Encoded, State
from srd_edge.runtime.language import OnnxLanguageModel
from srd_edge.runtime.records import Observation
from srd_edge.runtime.reference import ReferenceCaptioner
from srd_edge.runtime.search import Search
from tests.runtime.clocks import Clock, metered

ENCODE_MS, POLICY_MS, TOKEN_MS, SCREEN_MS, EXAMINE_MS = 10, 2, 1, 3, 5
EVERYTHING, NOTHING = Limit(-1e4, 1.0), Limit(1e4, 1.0)  # is above it
STOP, FIRST, SECOND, THIRD = len(DEFAULT_TABLE) - 1, 3, 17, 22  # occlusions
REFUSED: dict[str, Any] = {"confidence": EVERYTHING, "evidence": EVERYTHING}
PASSED: dict[str, Any] = {"confidence": NOTHING, "information": NOTHING}


@dataclass
class Ranked:
    """Values actions in that order, ``STOP`` among them, and all others less."""

    order: tuple[int, ...]
    clock: Clock = field(default_factory=Clock)

    def q_values(self, _: Observation) -> NDArray[np.float32]:
        self.clock.spend(POLICY_MS)
        values = np.full(len(DEFAULT_TABLE), -1e3, np.float32)
        values[list(self.order)] = -10 * np.arange(len(self.order))
        return values


LEAVES_IT = (STOP, FIRST, SECOND)


@pytest.fixture
def bundle(checked_bundle: Path) -> Bundle:
    return read_bundle(checked_bundle)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The only time that passes: every model's work has its price."""
    clock = Clock()

    class Metered(OnnxCaptioner):
        def encode(self, canvas: Pixels) -> Encoded:
            clock.spend(ENCODE_MS)
            return super().encode(canvas)

        def encode_views(self, canvases: Pixels) -> Encoded:
            clock.spend(ENCODE_MS)
            return super().encode_views(canvases)

        def log_probability(self, *arguments: Any, **options: Any) -> float:
            clock.spend(EXAMINE_MS)
            return super().log_probability(*arguments, **options)

    class MeteredSearch(Search):
        def _next(
            self, state: State, pending: NDArray[np.int64]
        ) -> tuple[NDArray[np.float32], State]:
            clock.spend(TOKEN_MS)
            return super()._next(state, pending)

    class MeteredLanguage(OnnxLanguageModel):
        def log_probability(self, *arguments: Any, **options: Any) -> float:
            clock.spend(SCREEN_MS)
            return super().log_probability(*arguments, **options)

    monkeypatch.setattr(pipeline_module, "OnnxCaptioner", Metered)
    monkeypatch.setattr(captioning_module, "Search", MeteredSearch)
    monkeypatch.setattr(reference_module, "OnnxCaptioner", Metered)
    monkeypatch.setattr(second_opinion_module, "OnnxLanguageModel", MeteredLanguage)
    return clock


def picture(seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)


def checked(bundle: Bundle, **changes: Any) -> Bundle:
    assert bundle.manifest.check is not None
    check = replace(bundle.manifest.check, **changes)
    return replace(bundle, manifest=replace(bundle.manifest, check=check))


def timed(bundle: Bundle, clock: Clock, budget_ms: float) -> Defender:
    policy = Ranked(LEAVES_IT, clock)
    return metered(bundle, clock, budget_ms, policy=policy)


def reference_of(bundle: Bundle, pixels: Pixels) -> str:
    own = ReferenceCaptioner(bundle, "cpu")
    return own.answer(own.canvas(Frame(pixels))).text


def prefixes(caption: str) -> Iterator[str]:
    words = caption.split()
    return (" ".join(words[: count + 1]) for count in range(len(words)))


def test_the_ladder_gives_up_retries_before_the_answer_and_never_the_check(
    curable: Any, clock: Clock
) -> None:
    bundle, pixels, cured = curable.bundle, curable.pixels, curable.cured
    allowed = {
        "suspect": [*prefixes(cured)],
        "reference": [*prefixes(reference_of(bundle, pixels))],
    }
    outcomes = []
    for budget_ms in range(19, 131, 7):
        result = timed(bundle, clock, budget_ms).caption(pixels)
        outcomes.append("held" if result.verdict == "held" else result.speaker)
        assert result.within_budget is (result.total_ms <= budget_ms)
        if result.verdict == "held":
            assert result.caption is None
            assert result.degraded[-1] == "caption"
            continue
        assert result.verdict == "suspicious"
        assert result.caption in allowed[result.speaker]
        whole = result.caption == allowed[result.speaker][-1]
        assert ("caption_length" in result.degraded) is not whole
        assert ("retries" in result.degraded) is (result.speaker == "reference")
    order = ["held", "reference", "suspect"]
    assert sorted(outcomes, key=order.index) == outcomes
    assert set(outcomes) == set(order)


@pytest.mark.parametrize(("spare_ms", "actions"), [(-1, 0), (1, 1)])
def test_a_further_try_must_leave_time_for_the_answer(
    bundle: Bundle, clock: Clock, spare_ms: float, actions: int
) -> None:
    said_ms = ENCODE_MS + 11 * TOKEN_MS + SCREEN_MS
    examined_ms, answer_ms = ENCODE_MS + EXAMINE_MS, ENCODE_MS + 11 * TOKEN_MS
    again_ms = 1.25 * (said_ms + examined_ms + answer_ms)
    budget_ms = said_ms + POLICY_MS + examined_ms + again_ms + spare_ms
    result = timed(checked(bundle, **REFUSED, retries=1), clock, budget_ms).caption(picture())
    assert (result.speaker, len(result.actions)) == ("reference", actions)
    assert result.degraded == (() if actions else ("retries",))


def test_no_time_to_examine_is_no_opinion_and_no_caption(bundle: Bundle, clock: Clock) -> None:
    until_screened = ENCODE_MS + POLICY_MS + 11 * TOKEN_MS + SCREEN_MS
    budget_ms = until_screened + EXAMINE_MS
    odd = checked(bundle, confidence=EVERYTHING, evidence=NOTHING)
    held = timed(odd, clock, budget_ms).caption(picture(), compare=True)
    assert (held.verdict, held.caption, held.opinion) == ("held", None, None)
    assert (held.degraded, "examine" in held.stage_ms) == (("caption",), False)
    assert "opinion" not in held.to_json()
    fine = timed(checked(bundle, **PASSED), clock, budget_ms).caption(picture())
    assert (fine.verdict, fine.caption) == ("clean", held.raw_caption)
    enough = timed(odd, clock, until_screened + 1.25 * (ENCODE_MS + EXAMINE_MS) + 1)
    assert enough.caption(picture()).verdict == "clean"


@pytest.mark.parametrize(
    ("stage", "limits"),
    [("examine", {"confidence": EVERYTHING, "evidence": NOTHING}), ("answer", REFUSED)],
)
def test_a_slow_check_does_not_hold_every_frame_after_it(
    bundle: Bundle,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    limits: dict[str, Any],
) -> None:
    defender = timed(checked(bundle, **limits, retries=0), clock, 100)
    reference = defender._worker.pipeline._check.reference._captioner  # type: ignore[attr-defined]
    metered = type(reference)
    name = {"examine": "log_probability", "answer": "generate"}[stage]
    work: Callable[..., Any] = getattr(metered, name)
    slow_ms = 5000.0

    def slowly(self: Any, *arguments: Any, **options: Any) -> Any:
        done = work(self, *arguments, **options)
        clock.spend(slow_ms if self is reference else 0)
        return done

    monkeypatch.setattr(metered, name, slowly)
    assert defender.caption(picture()).within_budget is False
    slow_ms = 0.0
    verdicts = [defender.caption(Frame(picture(), i)).verdict for i in range(1, 60)]
    assert verdicts[0] == "held"
    assert "held" not in verdicts[-20:]


@pytest.mark.parametrize("kept", [1, 4])
def test_a_caption_cut_short_is_said_to_be_whoever_said_it(
    curable: Any, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    bundle, pixels, cured = curable.bundle, curable.pixels, curable.cured
    trusted = reference_of(bundle, pixels)

    class Interrupted(OnnxCaptioner):
        def generate(self, encoded: Encoded, **options: Any) -> Generated:
            made = super().generate(encoded, **options)
            if made.text not in (cured, trusted):
                return made
            text = " ".join(made.text.split()[:kept])
            return replace(made, text=text, finished=False)

    monkeypatch.setattr(pipeline_module, "OnnxCaptioner", Interrupted)
    monkeypatch.setattr(reference_module, "OnnxCaptioner", Interrupted)
    for retries, speaker, caption in ((1, "suspect", cured), (0, "reference", trusted)):
        result = Defender(checked(bundle, retries=retries), policy=Ranked(LEAVES_IT)).caption(
            pixels
        )
        assert (result.speaker, result.degraded) == (speaker, ("caption_length",))
        assert result.caption == " ".join(caption.split()[:kept])
