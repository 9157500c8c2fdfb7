"""From answers to figures, on answers whose figures can be worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from srd_edge.attacks.samples import Sample
from srd_edge.evaluation.contestants import Answer, Setting
from srd_edge.evaluation.judging import judge_contestants
from srd_edge.evaluation.metrics import wilson_interval
from srd_edge.evaluation.registry import ENTRIES
from srd_edge.evaluation.trials import Outcome, Trial
from srd_edge.kernels.frames import Box
from srd_edge.training.caption_metrics import CaptionScorer, cider_d

ATTACKED = "a photo of a banana on a table"
QUALITY = ("cider_d", "bleu_4", "rouge_l")


@pytest.fixture
def scorer(samples: list[Sample]) -> Iterator[CaptionScorer]:
    with CaptionScorer([sample.captions for sample in samples], QUALITY) as scorer:
        yield scorer


def answers(captions: Sequence[str], **figures: Any) -> tuple[list[Answer], ...]:
    return ([Answer(caption, **figures) for caption in captions],)


def judge(
    setting: Setting,
    samples: list[Sample],
    scorer: CaptionScorer,
    folder: Path,
    undefended: Outcome,
    defended: Outcome,
) -> list[dict[str, Any]]:
    trial = Trial(setting, {}, samples, (0,), folder, "identity")
    outcomes = {"none": undefended, "oracle": defended}
    return judge_contestants(trial, ENTRIES, outcomes, scorer, None)


def test_every_figure_is_what_it_says(
    setting: Setting, samples: list[Sample], scorer: CaptionScorer, tmp_path: Path
) -> None:
    truth = [sample.captions[0] for sample in samples]
    third = len(samples) // 3
    kept = [*truth[:-third], *["nothing"] * third]
    saved = [*[ATTACKED] * third, *truth[third:]]
    side = samples[0].load().shape[0]
    half = Box(0, side // 2, side, side)
    none, oracle = judge(
        setting,
        samples,
        scorer,
        tmp_path,
        Outcome(answers(truth), answers([ATTACKED] * len(samples))),
        Outcome(
            answers(kept, alarm=False, suspicion=0.25, captioner_passes=2),
            answers(saved, alarm=True, suspicion=0.75, boxes=(half,), policy_passes=3),
        ),
    )
    assert (none["name"], none["kind"], none["asr"]) == ("none", "undefended", 1)
    assert (none["clean_drop"], none["false_alarms"], none["auroc"]) == (0, None, None)
    assert none["mask_iou"] is None
    assert (none["target_rate_clean"], oracle["target_rate_clean"]) == (0, 0)
    assert oracle["asr_by_seed"] == [pytest.approx(third / len(samples))]
    assert oracle["asr_interval"] == pytest.approx(wilson_interval(third, len(samples)))
    references = [sample.captions for sample in samples]
    whole = cider_d(truth, references)
    assert oracle["clean_drop"] == pytest.approx(1 - cider_d(kept, references) / whole)
    assert oracle["rp"] == pytest.approx(cider_d(saved, references) / whole)
    assert (oracle["false_alarms"], oracle["auroc"]) == (0, 1)
    assert oracle["tpr_at_1_percent_fpr"] == 1
    changed = Trial(setting, {}, samples, (0,), tmp_path, "").cases([0], 0)[0].trigger_mask.sum()
    assert oracle["mask_iou"] == pytest.approx(changed / (side * side / 2))
    assert (oracle["captioner_passes_clean"], oracle["captioner_passes_triggered"]) == (2, 1)
    assert oracle["policy_passes"] == 1.5


def test_a_target_that_is_said_anyway_is_counted_on_clean_pictures(
    setting: Setting, samples: list[Sample], scorer: CaptionScorer, tmp_path: Path
) -> None:
    quarter = len(samples) // 4
    said = [*[ATTACKED] * quarter, *["nothing"] * (len(samples) - quarter)]
    outcome = Outcome(answers(said), answers([ATTACKED] * len(samples)))
    for row in judge(setting, samples, scorer, tmp_path, outcome, outcome):
        assert row["target_rate_clean"] == pytest.approx(quarter / len(samples))
        assert row["asr"] == 1


def test_a_worthless_captioner_has_nothing_to_lose(
    setting: Setting, samples: list[Sample], scorer: CaptionScorer, tmp_path: Path
) -> None:
    worthless = Outcome(answers(["quite"] * len(samples)), answers([ATTACKED] * len(samples)))
    silent = Outcome(answers([""] * len(samples)), answers([""] * len(samples)))
    for row in judge(setting, samples, scorer, tmp_path, worthless, silent):
        assert (row["clean_drop"], row["clean_drop_by_seed"], row["rp"]) == (None, [None], None)
