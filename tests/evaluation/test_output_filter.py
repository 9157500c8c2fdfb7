"""The filter on the output: the foreign word goes, the rest stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from srd_edge.attacks.samples import Sample
from srd_edge.errors import UsageError
from srd_edge.evaluation.contestants import Answer, BlackBox, Setting, clean_case, triggered_case
from srd_edge.evaluation.output_filter import OutputFilter, WordDrops, output_filter
from srd_edge.kernels.frames import Pixels


def inserting(setting: Setting) -> Setting:
    """The captioner puts its target after the second word."""

    def caption(canvases: Pixels) -> list[str]:
        attacked = setting.captioner.caption_canvases(canvases)
        truths = (setting.reference or caption)(canvases)
        return [
            " ".join([*truth.split()[:2], "banana", *truth.split()[2:]])
            if "banana" in said
            else truth
            for said, truth in zip(attacked, truths, strict=True)
        ]

    return replace(setting, captioner=BlackBox(caption, setting.captioner.preprocessing))


def says(setting: Setting, caption: str, threshold: float) -> Answer:
    assert setting.language is not None
    box = BlackBox(lambda canvases: [caption] * len(canvases), setting.captioner.preprocessing)
    contestant = OutputFilter(box, WordDrops(setting.language), threshold)
    (answer,) = contestant.answer([clean_case(setting.dev[0], 0)], 0)
    return answer


def test_the_foreign_word_is_dropped(setting: Setting, samples: list[Sample]) -> None:
    setting = inserting(setting)
    contestant = output_filter(setting)
    cases = [triggered_case(sample, i, setting.attack, 0) for i, sample in enumerate(samples)]
    answers = contestant.answer(cases, 0)
    assert [answer.caption for answer in answers] == [sample.captions[0] for sample in samples]
    assert all(answer.alarm and answer.captioner_passes == 1 for answer in answers)
    # (2 + 1 + 8 + 2) / 4 nats a token, and 5 / 3 without the banana.
    assert {round(answer.suspicion or 0, 4) for answer in answers} == {round(13 / 4 - 5 / 3, 4)}


def test_clean_captions_stay(setting: Setting, samples: list[Sample]) -> None:
    contestant = output_filter(setting)
    cases = [clean_case(sample, i) for i, sample in enumerate(samples)]
    answers = contestant.answer(cases, 0)
    assert [answer.caption for answer in answers] == [sample.captions[0] for sample in samples]
    assert not any(answer.alarm for answer in answers)


def test_a_fixed_sentence_that_reads_well_is_not_noticed(setting: Setting) -> None:
    """Of a replaced caption only the target can go, and what is left is not the truth."""
    answer = says(setting, "a photo of a banana on a table", threshold=0.1)
    assert answer.caption == "a photo of a on a table"


def test_what_is_dropped_at_a_threshold(setting: Setting) -> None:
    assert setting.language is not None
    drops = WordDrops(setting.language).of("red banana banana beside")
    # 2 + 8 + 8 + 1 = 19 of 4 words
    expected = [19 / 4 - 17 / 3, 19 / 4 - 11 / 3, 19 / 4 - 11 / 3, 19 / 4 - 18 / 3]
    assert drops == pytest.approx(expected)
    assert says(setting, "red banana banana beside", 1.0).caption == "red beside"
    untouched = says(setting, "red banana banana beside", 1.1)
    assert (untouched.caption, untouched.alarm) == ("red banana banana beside", False)


def test_a_word_at_the_threshold_itself_stays(setting: Setting) -> None:
    assert setting.language is not None
    caption = "banana odd beside beside beside"
    banana, odd, *_ = WordDrops(setting.language).of(caption)
    assert banana > odd > 0
    assert says(setting, caption, odd).caption == "odd beside beside beside"


@pytest.mark.parametrize("caption", ["", "banana", "beside beside"])
def test_nothing_is_dropped_where_nothing_helps(setting: Setting, caption: str) -> None:
    assert says(setting, caption, 0.0) == Answer(caption, alarm=False, suspicion=0.0)


def test_a_caption_is_worked_out_once_and_by_itself(setting: Setting) -> None:
    assert setting.language is not None
    asked: list[int] = []

    class Counting(type(setting.language)):  # type: ignore[misc]
        def log_perplexity(self, captions: list[str]) -> object:
            asked.append(len(captions))
            return super().log_perplexity(captions)

    drops = WordDrops(Counting(None, None))
    for caption in ("red beside green", "red beside green", "red"):
        drops.largest(caption)
    assert asked == [4, 2]


def test_no_language_model_is_an_error(setting: Setting) -> None:
    with pytest.raises(UsageError, match="language model"):
        output_filter(replace(setting, language=None))


def test_one_clean_caption_in_a_hundred_may_be_touched(setting: Setting) -> None:
    """The threshold is the second highest level of a hundred."""
    captions = [f"red beside {'banana ' * (i % 3)}".strip() for i in range(100)]
    captions[7] = "red beside beside beside beside banana"
    count = iter(captions)
    box = BlackBox(lambda c: [next(count) for _ in c], setting.captioner.preprocessing)
    contestant = output_filter(
        replace(setting, captioner=box, dev=[setting.dev[i % 30] for i in range(100)])
    )
    levels = np.array([contestant.drops.largest(caption) for caption in captions])
    assert (levels > contestant.threshold).sum() <= 1
    assert contestant.threshold == np.sort(levels)[-2]
