"""Several pictures captioned at once: each as it would be by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge import Defender, Frame, Result
from srd_edge.kernels.actions import DEFAULT_TABLE
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.budget import WHOLE, LatencyBudget
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import Generated, OnnxCaptioner
from srd_edge.runtime.gate import ChangeGate
from srd_edge.runtime.records import Observation
from srd_edge.runtime.side_by_side import apart, together
from srd_edge.runtime.workers import AtOnce
from tests.runtime.clocks import Clock, after, metered

FIRST = 3  # an occlusion
WHAT_IS_SAID = ("caption", "verdict", "actions", "degraded", "raw_caption", "speaker")


@pytest.fixture
def bundle(toy_bundle: Path) -> Bundle:
    return read_bundle(toy_bundle)


def picture(seed: int, size: tuple[int, int] = (40, 60)) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def canvases(bundle: Bundle, count: int) -> list[Pixels]:
    spec = bundle.manifest.preprocessing
    return [picture(seed, (spec.height, spec.width)) for seed in range(count)]


@dataclass
class Wary:
    """Perturbs every picture whose first feature is above ``level``."""

    level: float

    def q_values(self, observation: Observation) -> Any:
        values = np.full(len(DEFAULT_TABLE), -1, np.float32)
        values[-1] = 0
        values[FIRST] = 1 if observation.features[0, 0] > self.level else -1
        return values


def said(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in WHAT_IS_SAID}


def test_what_is_put_together_comes_apart_again(bundle: Bundle) -> None:
    captioner = OnnxCaptioner(bundle, "cpu")
    alone = [captioner.encode(canvas) for canvas in canvases(bundle, 3)]
    again = apart(together(alone))
    assert len(again) == 3
    for one, other in zip(alone, again, strict=True):
        assert np.array_equal(one.features, other.features)
        assert len(one.memory) == len(other.memory) > 0
        for mine, theirs in zip(one.memory, other.memory, strict=True):
            assert np.array_equal(mine.numpy(), theirs.numpy())


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_caption_is_the_one_that_the_picture_gets_by_itself(
    bundle: Bundle, count: int
) -> None:
    captioner = OnnxCaptioner(bundle, "cpu")
    shown = canvases(bundle, count)
    alone = [captioner.generate(captioner.encode(canvas)) for canvas in shown]
    at_once = captioner.generate_each(captioner.encode_each(shown))
    assert [(made.text, made.tokens) for made in at_once] == [
        (made.text, made.tokens) for made in alone
    ]
    for made, other in zip(at_once, alone, strict=True):
        assert made.log_probabilities == pytest.approx(other.log_probabilities, abs=1e-4)


def ending_early(bundle: Bundle, shown: list[Pixels]) -> Bundle:
    """With an end token that the captions of ``shown`` hold at different places, or not at all."""
    captioner = OnnxCaptioner(bundle, "cpu")
    lines = [made.tokens for made in captioner.generate_each(captioner.encode_each(shown))]
    places = {
        token: {line.index(token) if token in line else len(line) for line in lines}
        for token in set().union(*lines)
    }
    generation = bundle.manifest.generation
    end = max(places, key=lambda token: (len(places[token]), token))
    assert len(places[end]) > 1, "captions of one length tell nothing"
    ended = replace(generation, end_tokens=(end,))
    return replace(bundle, manifest=replace(bundle.manifest, generation=ended))


def test_a_deadline_cuts_those_that_are_not_done(bundle: Bundle) -> None:
    shown = canvases(bundle, 8)
    captioner = OnnxCaptioner(ending_early(bundle, shown), "cpu")
    encoded = captioner.encode_each(shown)
    whole = captioner.generate_each(encoded)
    calls = min(len(made.tokens) for made in whole) + 1
    cut = captioner.generate_each(encoded, expired=after(calls))
    for made, full in zip(cut, whole, strict=True):
        if full.ended and len(full.tokens) < calls:
            assert made == full
        else:
            assert (made.finished, made.tokens) == (False, full.tokens[:calls])
            assert full.text.startswith(made.text)
    assert {made.finished for made in cut} == {True, False}


def test_a_frame_of_each_source_is_defended_as_by_itself(bundle: Bundle) -> None:
    frames = {7: Frame(picture(0), 4), 2: Frame(picture(1, (30, 80)), 9), 5: Frame(picture(2), 0)}
    seen: list[float] = []

    class Noting(Wary):
        def q_values(self, observation: Observation) -> Any:
            seen.append(float(observation.features[0, 0]))
            return super().q_values(observation)

    Defender(bundle, policy=Noting(np.inf), provider="cpu").captions(frames)
    policy = Wary(sum(sorted(seen[-3:])[1:]) / 2)
    alone = Defender(bundle, policy=policy, provider="cpu")
    each = {n: alone.caption(frame, compare=True, source=n) for n, frame in frames.items()}
    at_once = Defender(bundle, policy=policy, provider="cpu").captions(frames, compare=True)
    assert list(at_once) == [7, 2, 5]
    assert {n: said(result) for n, result in at_once.items()} == {
        n: said(result) for n, result in each.items()
    }
    assert {result.verdict for result in at_once.values()} == {"clean", "suspicious"}
    assert {result.side_by_side for result in at_once.values()} == {3}
    assert {result.side_by_side for result in each.values()} == {1}
    assert at_once[7].to_json()["side_by_side"] == 3
    assert "side_by_side" not in each[7].to_json()


def test_only_what_has_changed_is_captioned(bundle: Bundle) -> None:
    defender = Defender(bundle, gate_level=8, provider="cpu")
    first = defender.captions({n: Frame(picture(n), 0) for n in range(3)})
    second = defender.captions({n: Frame(picture(n if n != 1 else 9), 1) for n in range(3)})
    assert [second[n].unchanged_for for n in range(3)] == [1, None, 1]
    assert [second[n].caption for n in (0, 2)] == [first[n].caption for n in (0, 2)]
    assert second[1].side_by_side == 1


@pytest.mark.parametrize(("whole_ms", "at_once"), [(10.0, 4), (100.0, 3), (None, 4)])
def test_so_many_at_once_as_the_budget_allows(
    bundle: Bundle, whole_ms: float | None, at_once: int
) -> None:
    defender = Defender(bundle, budget=LatencyBudget(50), worker=AtOnce, clock=lambda: 0.0)
    if whole_ms is not None:
        defender._worker.costs(4).learn(WHOLE, whole_ms)
    results = defender.captions({n: Frame(picture(n), 0) for n in range(4)})
    expected = [at_once] * at_once + [1] * (4 - at_once)
    assert [results[n].side_by_side for n in range(4)] == expected
    if at_once < 4:
        # What is refused is doubted, so that it is tried again some day.
        assert defender._worker.costs(4).means_ms[WHOLE] == pytest.approx(90)


def working(bundle: Bundle, clock: Clock, budget_ms: float, whole_ms: Sequence[float]) -> Defender:
    """Takes 20 ms a frame, and believes that 1, 2, ... frames at once take ``whole_ms``."""
    defender = metered(bundle, clock, budget_ms, provider="cpu")
    captioner = defender._worker.pipeline._captioner  # type: ignore[attr-defined]
    encode_each = captioner.encode_each

    def spending(canvases: Sequence[Pixels]) -> Any:
        clock.spend(20.0 * len(canvases))
        return encode_each(canvases)

    captioner.encode_each = spending
    for count, ms in enumerate(whole_ms, start=1):
        defender._worker.costs(count).learn(WHOLE, ms)
    return defender


def shown(number: int, sources: int) -> dict[int, Frame]:
    return {n: Frame(picture(10 * number + n), number) for n in range(sources)}


def test_who_there_is_no_room_for_is_held_and_goes_first_the_next_time(bundle: Bundle) -> None:
    clock = Clock()
    defender = working(bundle, clock, 55, [20, 40, 60, 80, 100])
    captions: dict[int, tuple[int, str | None]] = {}
    for number, captioned in enumerate([{0, 1}, {2, 3}, {4, 0}]):
        began_s = clock.now_s
        results = defender.captions(shown(number, 5))
        assert (clock.now_s - began_s) * 1e3 == pytest.approx(40)
        assert list(results) == list(range(5))
        for n, result in results.items():
            assert result.total_ms == pytest.approx(40)
            assert result.within_budget
            if n in captioned:
                captions[n] = number, result.caption
                assert (result.verdict == "held", result.side_by_side) == (False, 2)
            else:
                made, caption = captions.get(n, (number, None))
                assert (result.verdict, result.degraded) == ("held", ("frame_rate",))
                assert (result.caption, result.held_for or 0) == (caption, number - made)


def test_no_source_waits_for_ever_whose_every_picture_is_a_file_of_its_own(bundle: Bundle) -> None:
    defender = working(bundle, Clock(), 55, [20, 40, 60])
    for number, held in enumerate([{2}, {1}]):
        results = defender.captions(shown(number, 3))
        assert {n for n, result in results.items() if result.verdict == "held"} == held
        for n in range(3):
            defender.forget(n)


def test_others_are_captioned_in_what_is_left_of_the_budget(bundle: Bundle) -> None:
    clock = Clock()
    defender = working(bundle, clock, 100, [20, 40, 100])
    results = defender.captions(shown(0, 3))
    assert [result.side_by_side for result in results.values()] == [2, 2, 1]
    assert [result.total_ms for result in results.values()] == pytest.approx([60] * 3)
    assert "held" not in {result.verdict for result in results.values()}


def test_who_is_late_makes_all_late_that_are_handed_back_with_it(bundle: Bundle) -> None:
    clock = Clock()
    results = working(bundle, clock, 55, [1, 40, 60]).captions(shown(0, 3))
    assert [result.total_ms for result in results.values()] == pytest.approx([60] * 3)
    assert {result.within_budget for result in results.values()} == {False}


def test_a_comparison_takes_no_time_from_the_others(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    defender = working(bundle, clock, 100, [20, 40, 100])

    def undefended(frame: Frame, _: Result) -> str:
        clock.spend(1000)
        return f"of {frame.index}"

    monkeypatch.setattr(defender, "_undefended", undefended)
    results = defender.captions(shown(0, 3), compare=True)
    assert [result.total_ms for result in results.values()] == pytest.approx([60] * 3)
    assert {result.raw_caption for result in results.values()} == {"of 0"}
    assert "held" not in {result.verdict for result in results.values()}


def test_each_is_charged_for_its_own_look_through_the_gate(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    defender = Defender(bundle, gate_level=8, provider="cpu", clock=clock)
    defender.captions(shown(0, 3))
    looks, still = iter([1.0, 2.0, 4.0]), ChangeGate.still

    def slow(gate: ChangeGate, pixels: Pixels) -> bool:
        clock.spend(next(looks))
        return still(gate, pixels)

    monkeypatch.setattr(ChangeGate, "still", slow)
    results = defender.captions(shown(0, 3) | {1: Frame(picture(99), 1)})
    assert [result.stage_ms["gate"] for result in results.values()] == pytest.approx([1, 2, 4])
    assert [set(results[n].stage_ms) for n in (0, 2)] == [{"gate"}] * 2
    assert "encode" in results[1].stage_ms
    assert [result.side_by_side for result in results.values()] == [1, 1, 1]
    assert [result.total_ms for result in results.values()] == pytest.approx([7] * 3)


def test_beams_are_made_one_after_the_other(bundle: Bundle) -> None:
    generation = replace(bundle.manifest.generation, beams=2)
    searching = replace(bundle, manifest=replace(bundle.manifest, generation=generation))
    captioner = OnnxCaptioner(searching, "cpu")
    shown = canvases(bundle, 3)
    alone: list[Generated] = [captioner.generate(captioner.encode(canvas)) for canvas in shown]
    assert [made.text for made in captioner.generate_each(captioner.encode_each(shown))] == [
        made.text for made in alone
    ]
