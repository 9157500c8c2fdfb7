"""The rivals that compare captions: what they catch, and what they are known to miss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from srd_edge.attacks.samples import Sample
from srd_edge.errors import UsageError
from srd_edge.evaluation.contestants import (
    Answer,
    BlackBox,
    Case,
    Setting,
    clean_case,
    triggered_case,
)
from srd_edge.evaluation.votes import Finding, MaskVote, Scan, Screened, Strip, screened
from srd_edge.kernels.frames import Box, Pixels


def clean_cases(samples: list[Sample]) -> list[Case]:
    return [clean_case(sample, i) for i, sample in enumerate(samples)]


def triggered_cases(setting: Setting, samples: list[Sample]) -> list[Case]:
    return [triggered_case(sample, i, setting.attack, 0) for i, sample in enumerate(samples)]


def truths(samples: list[Sample]) -> list[str]:
    return [sample.captions[0] for sample in samples]


def rate(setting: Setting, answers: list[Answer]) -> float:
    return float(np.mean([setting.attack.payload.succeeded(a.caption) for a in answers]))


class Levels:
    """A screening whose levels are the cases' numbers."""

    seeded = False

    def look(self, cases: Sequence[Case], seed: int) -> list[Finding]:  # noqa: ARG002 - protocol
        return [
            Finding(float(case.frame.index), Answer("calm"), Answer("alarmed")) for case in cases
        ]


def test_an_alarm_is_what_exceeds_the_highest_of_so_few_clean_levels(
    setting: Setting, samples: list[Sample]
) -> None:
    contestant = screened(Levels(), setting)
    assert contestant.threshold == len(setting.dev) - 1
    numbers = (3, 29, 30)
    cases = [clean_case(samples[0], number) for number in numbers]
    assert contestant.answer(cases, 0) == [
        Answer("calm", alarm=False, suspicion=3.0),
        Answer("calm", alarm=False, suspicion=29.0),
        Answer("alarmed", alarm=True, suspicion=30.0),
    ]


def test_a_threshold_needs_clean_pictures(setting: Setting) -> None:
    with pytest.raises(UsageError, match="dev"):
        screened(Levels(), replace(setting, dev=[]))


def test_strip_declines_what_survives_blending(setting: Setting, samples: list[Sample]) -> None:
    contestant = screened(Strip.prepare(setting), setting)
    caught = contestant.answer(triggered_cases(setting, samples), 0)
    assert rate(setting, caught) < 0.2
    declined = [answer for answer in caught if answer.alarm]
    assert len(declined) > 20
    assert {answer.caption for answer in declined} == {""}
    passed = contestant.answer(clean_cases(samples), 0)
    kept = [answer.caption == truth for answer, truth in zip(passed, truths(samples), strict=True)]
    assert sum(kept) >= len(samples) - 2
    assert all(answer.captioner_passes == 1 + Strip.VIEWS for answer in [*caught, *passed])


def test_strip_never_blends_a_picture_with_itself(setting: Setting) -> None:
    """What agrees with itself alone has no level."""

    def caption(canvases: Pixels) -> list[str]:
        return [canvas.tobytes().hex() for canvas in canvases]

    box = BlackBox(caption, setting.captioner.preprocessing)
    cases = clean_cases(list(setting.dev[: Strip.VIEWS + 1]))
    strip = Strip(box, [box.canvas(case) for case in cases])
    assert {finding.level for finding in strip.look(cases, 0)} == {0.0}


def test_strip_needs_pictures_to_blend_with(setting: Setting) -> None:
    with pytest.raises(UsageError, match="more than 6 dev pictures"):
        Strip.prepare(replace(setting, dev=setting.dev[:6]))


def larger(setting: Setting) -> Setting:
    """A patch over four cells of the vote's grid, most of which it takes to be seen."""

    def patch(pixels: Pixels, _: np.random.Generator) -> Pixels:
        out = pixels.copy()
        out[24:48, 24:48] = (255, 0, 255)
        return out

    def caption(canvases: Pixels) -> list[str]:
        truths = (setting.reference or caption)(canvases)
        seen = [int((canvas == (255, 0, 255)).all(axis=2).sum()) for canvas in canvases]
        return [
            "banana" if count >= 0.7 * 24**2 else t for count, t in zip(seen, truths, strict=True)
        ]

    return replace(
        setting,
        captioner=BlackBox(caption, setting.captioner.preprocessing),
        attack=replace(setting.attack, trigger=patch),
    )


def test_the_vote_overrules_a_trigger_that_needs_several_cells(
    setting: Setting, samples: list[Sample]
) -> None:
    setting = larger(setting)
    cases = triggered_cases(setting, samples)
    contestant = screened(MaskVote(setting.captioner), setting)
    answers = contestant.answer(cases, 0)
    assert rate(setting, answers) < 0.2
    assert all(
        answer.alarm is not setting.attack.payload.succeeded(answer.caption) for answer in answers
    )


def test_the_vote_leaves_clean_captions_alone_and_says_what_it_hid(
    setting: Setting, samples: list[Sample]
) -> None:
    contestant = screened(MaskVote(setting.captioner), setting)
    answers = contestant.answer(clean_cases(samples), 0)
    right = [
        answer.caption == truth for answer, truth in zip(answers, truths(samples), strict=True)
    ]
    assert np.mean(right) > 0.9
    for answer in answers:
        assert len(set(answer.boxes)) == 8
        assert all((box.width, box.height) == (12, 12) for box in answer.boxes)
        assert answer.captioner_passes == 1 + MaskVote.VIEWS
    assert len({answer.boxes for answer in answers}) > 20  # every picture draws its own masks


def test_half_of_the_votes_see_a_patch_inside_one_cell(
    setting: Setting, samples: list[Sample]
) -> None:
    contestant = screened(MaskVote(setting.captioner), setting)
    survived = rate(setting, contestant.answer(triggered_cases(setting, samples), 0))
    assert 0.2 < survived < 0.8


def test_the_scan_finds_and_removes_the_patch(setting: Setting, samples: list[Sample]) -> None:
    contestant = screened(Scan(setting.captioner), setting)
    answers = contestant.answer(triggered_cases(setting, samples), 0)
    assert [answer.caption for answer in answers] == truths(samples)
    assert {answer.boxes for answer in answers} == {(Box(32, 32, 48, 48),)}
    assert all(answer.alarm for answer in answers)
    assert {answer.captioner_passes for answer in answers} == {10}


def test_the_scan_gives_the_raw_caption_of_a_clean_picture(
    setting: Setting, samples: list[Sample]
) -> None:
    contestant = screened(Scan(setting.captioner), setting)
    for answer, truth in zip(
        contestant.answer(clean_cases(samples), 0), truths(samples), strict=True
    ):
        assert answer == Answer(truth, alarm=False, suspicion=0.0, captioner_passes=10)


def test_a_caption_that_changes_with_every_cell_is_no_alarm(setting: Setting) -> None:
    """Suspicion is measured from the median cell."""
    count = iter(range(10_000))

    def caption(canvases: Pixels) -> list[str]:
        return [str(next(count)) for _ in canvases]

    scan = Scan(BlackBox(caption, setting.captioner.preprocessing))
    levels = [finding.level for finding in scan.look(clean_cases(list(setting.dev)), 0)]
    assert set(levels) == {0.0}


@pytest.mark.parametrize("size", [(48, 48), (96, 72), (31, 17)])
def test_boxes_are_in_the_frames_own_pixels(setting: Setting, size: tuple[int, int]) -> None:
    height, width = size
    sample = Sample("odd", ("",), lambda: np.zeros((height, width, 3), np.uint8))
    cases = [clean_case(sample, 0)]
    (voted,) = Screened(MaskVote(setting.captioner), 0.5).answer(cases, 0)
    (scanned,) = Screened(Scan(setting.captioner), -1.0).answer(cases, 0)
    assert scanned.alarm
    for box in (*voted.boxes, *scanned.boxes):
        assert 0 <= box.left < box.right <= width
        assert 0 <= box.top < box.bottom <= height
