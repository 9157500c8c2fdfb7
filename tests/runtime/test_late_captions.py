"""A frame whose caption is late is held, and its caption is there for the frames after it."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from srd_edge import Defender, Frame, Result
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.budget import WHOLE, FrameTimer, LatencyBudget
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.pipeline import Pipeline
from srd_edge.runtime.workers import AtOnce, OnProcess

FOR_EVER = float("inf")
HOURS = LatencyBudget(1e7)


class Slow(AtOnce):
    """Does its work when it has been waited for ``waits`` times in vain; once asked in earnest."""

    runs_over = True  # type: ignore[misc]

    def __init__(self, pipeline: Pipeline, waits: Sequence[int]) -> None:
        super().__init__(pipeline)
        self._waits, self._left = list(waits), 0

    def begin(self, frames: Sequence[Frame], timer: FrameTimer) -> Sequence[Frame]:
        self._left = self._waits.pop(0) if self._waits else 0
        copies = [replace(frame, pixels=frame.pixels.copy()) for frame in frames]
        return super().begin(copies, timer)

    def wait(self, until_s: float) -> list[Result] | None:  # type: ignore[override]
        if self._left and until_s != FOR_EVER:
            self._left -= 1
            return None
        return super().wait(until_s)


@pytest.fixture
def bundle(toy_bundle: Path) -> Bundle:
    return read_bundle(toy_bundle)


def picture(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)


def slow(bundle: Bundle, *waits: int, gate_level: float | None = None) -> Defender:
    return Defender(
        bundle,
        budget=HOURS,
        worker=lambda pipeline: Slow(pipeline, waits),
        gate_level=gate_level,
        provider="cpu",
    )


@pytest.fixture
def captions(bundle: Bundle) -> list[str | None]:
    """Of pictures 0 to 5, each in its own time."""
    defender = Defender(bundle, provider="cpu")
    return [defender.caption(Frame(picture(seed), seed)).caption for seed in range(6)]


def told(result: Result) -> tuple[str, str | None, int | None, tuple[str, ...]]:
    return result.verdict, result.caption, result.held_for, result.degraded


def test_a_late_caption_is_for_the_frames_after_it(
    bundle: Bundle, captions: list[str | None]
) -> None:
    defender = slow(bundle, 0, 3)
    results = [defender.caption(Frame(picture(seed), seed)) for seed in range(6)]
    assert results[0].verdict != "held"
    assert told(results[1]) == ("held", captions[0], 1, ("caption",))
    # The thread is still at the second frame when the third and the fourth come.
    assert told(results[2]) == ("held", captions[0], 2, ("frame_rate",))
    assert told(results[3]) == ("held", captions[0], 3, ("frame_rate",))
    assert [result.caption for result in results[4:]] == captions[4:]
    assert "wait" in results[4].stage_ms
    assert all(result.decision is not None for result in results if result.verdict != "held")
    assert all(result.within_budget for result in results)


def test_its_age_is_that_of_the_frame_that_it_was_made_of(
    bundle: Bundle, captions: list[str | None]
) -> None:
    defender = slow(bundle, 1, 1, 1)
    results = [defender.caption(Frame(picture(seed), seed)) for seed in range(3)]
    assert told(results[0]) == ("held", None, None, ("caption",))
    assert told(results[1]) == ("held", captions[0], 1, ("caption",))
    assert told(results[2]) == ("held", captions[1], 1, ("caption",))


def test_between_frames_of_a_file_what_is_late_is_waited_for(
    bundle: Bundle, captions: list[str | None]
) -> None:
    defender = slow(bundle, 1, 1, 1)
    results = []
    for seed in range(3):
        results.append(defender.caption(Frame(picture(seed), seed)))
        defender.rest()
    assert [told(result)[1:3] for result in results] == [
        (None, None),
        (captions[0], 1),
        (captions[1], 1),
    ]
    Defender(bundle, provider="cpu").rest()  # nothing can be late


def test_the_caller_may_write_over_a_frame_that_was_held(
    bundle: Bundle, captions: list[str | None]
) -> None:
    defender, buffer = slow(bundle, 1, 1), picture(0)
    defender.caption(Frame(buffer, 0))
    buffer[:] = picture(1)
    assert told(defender.caption(Frame(buffer, 1)))[:2] == ("held", captions[0])


def test_a_late_caption_is_for_its_own_source(bundle: Bundle, captions: list[str | None]) -> None:
    defender = slow(bundle, 1, 1, 1, 0)
    held = [defender.caption(Frame(picture(seed), seed), source=seed % 2) for seed in range(3)]
    assert [result.caption for result in held] == [None, None, captions[0]]
    assert held[2].held_for == 2


def test_sources_take_turns_where_there_is_room_for_one(
    bundle: Bundle, captions: list[str | None]
) -> None:
    defender = slow(bundle, 2, 2)
    defender._worker.costs(2).learn(WHOLE, 1e9)
    first = defender.captions({0: Frame(picture(0), 0), 1: Frame(picture(1), 0)})
    assert [told(first[n]) for n in range(2)] == [
        ("held", None, None, ("caption",)),
        ("held", None, None, ("frame_rate",)),
    ]
    second = defender.captions({0: Frame(picture(2), 1), 1: Frame(picture(3), 1)})
    assert [told(second[n]) for n in range(2)] == [
        ("held", captions[0], 1, ("frame_rate",)),
        ("held", None, None, ("caption",)),
    ]
    defender.rest()
    third = defender.captions({1: Frame(picture(4), 2)})
    assert told(third[1])[:2] != ("held", None)
    assert third[1].caption == captions[4]


def test_a_late_caption_of_what_is_forgotten_is_never_said(bundle: Bundle) -> None:
    defender = slow(bundle, 1, 1)
    defender.caption(Frame(picture(0), 0))
    defender.forget()
    assert told(defender.caption(Frame(picture(1), 1)))[:3] == ("held", None, None)


def test_a_comparison_waits_for_what_is_late(bundle: Bundle) -> None:
    undefended = Defender(bundle, defend=False, provider="cpu")
    raw = [undefended.caption(Frame(picture(seed), seed)).caption for seed in range(4)]
    defender = slow(bundle, 2, 2, 0, 0)
    results = [defender.caption(Frame(picture(n), n), compare=True) for n in range(4)]
    assert [result.raw_caption for result in results] == raw
    assert [result.verdict == "held" for result in results] == [True, True, False, False]


def test_while_the_scene_stands_a_late_caption_stands_too(
    bundle: Bundle, captions: list[str | None]
) -> None:
    defender = slow(bundle, 1, gate_level=8)
    held = defender.caption(Frame(picture(0), 0))
    assert held.verdict == "held"
    again = defender.caption(Frame(picture(0), 1))
    assert (again.caption, again.unchanged_for) == (captions[0], None)
    assert defender.caption(Frame(picture(0), 2)).unchanged_for == 1
    assert defender.caption(Frame(picture(1), 3)).unchanged_for is None


def test_an_error_of_a_late_frame_is_told_and_the_next_is_captioned(
    bundle: Bundle, captions: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    defender = slow(bundle, 1)
    with monkeypatch.context() as patched:
        defender.caption(Frame(picture(0), 0))
        patched.setattr(defender._worker.pipeline, "_captioner", None)  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            defender.caption(Frame(picture(1), 1))
    assert defender.caption(Frame(picture(2), 2)).caption == captions[2]


def test_what_there_is_no_time_for_is_made_whole(bundle: Bundle) -> None:
    unhurried = Defender(bundle, provider="cpu").caption(picture(0))
    hurried = Defender(
        bundle,
        budget=LatencyBudget(1e-3),
        worker=lambda pipeline: Slow(pipeline, ()),
        provider="cpu",
    )
    result = hurried.caption(picture(0))
    assert (result.caption, result.actions, result.degraded) == (
        unhurried.caption,
        unhurried.actions,
        (),
    )
    assert result.within_budget is False


def test_on_a_process_of_its_own_a_caption_comes_with_its_age(
    bundle: Bundle, captions: list[str | None]
) -> None:
    defender = Defender(bundle, budget=LatencyBudget(1e-3), provider="cpu")
    assert isinstance(defender._worker, OnProcess)
    pid = defender._worker._link.process.pid
    expected = [
        (0, ("held", None, None, ("caption",))),
        (7, ("held", captions[0], 7, ("caption",))),
    ]
    for index, outcome in expected:
        os.kill(pid, signal.SIGSTOP)
        assert told(defender.caption(Frame(picture(index), index))) == outcome
        os.kill(pid, signal.SIGCONT)
        defender._on_time.finish()


def test_a_worker_is_told_once_a_frame_when_its_result_is_handed_back(bundle: Bundle) -> None:
    told: list[str] = []

    class Listening(Slow):
        def wait(self, until_s: float) -> list[Result] | None:  # type: ignore[override]
            told.append("waited")
            return super().wait(until_s)

        def handed_back(self) -> None:
            told.append("handed back")

    defender = Defender(bundle, budget=HOURS, worker=lambda p: Listening(p, [1]), provider="cpu")
    for seed in range(2):
        defender.caption(Frame(picture(seed), seed))
    assert told == ["waited", "handed back", "waited", "waited", "handed back"]
