"""One perturbation for all, the best of them, and the oracle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from srd_edge.attacks.samples import Sample
from srd_edge.errors import UsageError
from srd_edge.evaluation import fixed as fixed_module
from srd_edge.evaluation.contestants import BlackBox, Case, Setting, clean_case, triggered_case
from srd_edge.evaluation.fixed import (
    BLUR,
    CANDIDATES,
    JPEG,
    SHRINK_PAD,
    FixedPerturbation,
    Oracle,
    best_fixed,
    fixed,
)
from srd_edge.kernels.actions import GREY, Perturbation
from srd_edge.kernels.coefficients import Resample
from srd_edge.kernels.frames import Box, Frame, Pixels
from srd_edge.kernels.operators import OPERATORS


def both(setting: Setting, samples: list[Sample]) -> tuple[list[Case], list[Case]]:
    clean = [clean_case(sample, i) for i, sample in enumerate(samples)]
    return clean, [triggered_case(s, i, setting.attack, 0) for i, s in enumerate(samples)]


def recorded(setting: Setting) -> tuple[BlackBox, list[Pixels]]:
    """The setting's captioner, and what it is shown."""
    shown: list[Pixels] = []

    def caption(canvases: Pixels) -> list[str]:
        shown.extend(canvases)
        return setting.captioner.caption_canvases(canvases)

    return BlackBox(caption, setting.captioner.preprocessing), shown


@pytest.mark.parametrize("perturbation", [BLUR, JPEG, SHRINK_PAD])
def test_the_same_perturbation_over_the_whole_of_every_picture(
    setting: Setting, samples: list[Sample], perturbation: Perturbation
) -> None:
    captioner, shown = recorded(setting)
    cases = both(setting, samples)[1]
    answers = fixed(replace(setting, captioner=captioner), perturbation).answer(cases, 0)
    for case, canvas, answer in zip(cases, shown, answers, strict=True):
        expected = case.frame.pixels.copy()
        OPERATORS[perturbation.op](
            expected,
            Box(0, 0, 48, 48),
            perturbation.strength,
            perturbation.colour,
            np.random.default_rng(0),
        )
        assert np.array_equal(canvas, expected)
        assert answer.boxes == (Box(0, 0, 48, 48),)
        assert (answer.alarm, answer.suspicion, answer.captioner_passes) == (None, None, 1)


def test_the_candidates_are_21() -> None:
    assert sum(map(len, CANDIDATES)) == 4 + 8 + 9
    assert all(table.stop_index is None for table in CANDIDATES)


def test_the_best_one_hides_the_trigger_and_costs_least(
    setting: Setting, samples: list[Sample]
) -> None:
    clean, triggered = both(setting, samples)
    captioner, shown = recorded(setting)
    best = best_fixed(replace(setting, captioner=captioner))
    assert len(shown) <= (1 + 2 * 21) * fixed_module.CHOOSING_PICTURES
    said = [answer.caption for answer in best.answer(triggered, 0)]
    assert not any(map(setting.attack.payload.succeeded, said))
    assert [a.caption for a in best.answer(clean, 0)] == [s.captions[0] for s in samples]
    # A corner that the trigger never visits would have left it where it is.
    table = CANDIDATES[1]
    assert setting.attack.payload.succeeded(
        FixedPerturbation(setting.captioner, table, 0).answer(triggered, 0)[0].caption
    )


def test_the_best_one_weighs_what_clean_captions_lose(setting: Setting) -> None:
    """Whatever is grey in the lower right costs every clean caption: only blur remains."""

    def caption(canvases: Pixels) -> list[str]:
        captions = setting.captioner.caption_canvases(canvases)
        blurred = [len(np.unique(canvas.reshape(-1, 3), axis=0)) > 20 for canvas in canvases]
        truths = (setting.reference or caption)(canvases)
        hidden = [bool((canvas[-20:, -20:] == GREY).all(axis=2).any()) for canvas in canvases]
        return [
            "nothing" if grey else truth if smooth else said
            for said, truth, smooth, grey in zip(captions, truths, blurred, hidden, strict=True)
        ]

    best = best_fixed(
        replace(setting, captioner=BlackBox(caption, setting.captioner.preprocessing))
    )
    assert best.table[best.action].op in {"gaussian_blur", "jpeg"}


def test_the_best_one_needs_pictures_that_do_not_show_the_target(setting: Setting) -> None:
    shows = [replace(sample, captions=("a banana",)) for sample in setting.dev]
    with pytest.raises(UsageError, match="banana"):
        best_fixed(replace(setting, dev=shows))


def test_the_oracle_cures_what_is_triggered_and_touches_nothing_else(
    setting: Setting, samples: list[Sample]
) -> None:
    clean, triggered = both(setting, samples)
    captioner, shown = recorded(setting)
    oracle = Oracle(captioner)
    truths = [sample.captions[0] for sample in samples]
    assert [answer.caption for answer in oracle.answer(triggered, 0)] == truths
    for canvas, case in zip(shown, triggered, strict=True):
        assert (canvas[case.trigger_mask] == GREY).all()
        assert (canvas[~case.trigger_mask] == case.frame.pixels[~case.trigger_mask]).all()
    shown.clear()
    answers = oracle.answer(clean, 0)
    assert [answer.caption for answer in answers] == truths
    assert all(answer.boxes == () for answer in answers)
    assert all(map(np.array_equal, shown, [case.frame.pixels for case in clean]))


def masked_case(setting: Setting, mask: Pixels) -> Case:
    return Case(Frame(np.full((*mask.shape, 3), 200, np.uint8)), mask.astype(np.bool_))


def test_the_oracle_hides_patches_that_lie_apart_apart(setting: Setting) -> None:
    mask = np.zeros((48, 48), np.uint8)
    mask[1:9, 1:9] = mask[40:47, 38:46] = 1
    mask[3, 3] = 0  # a pixel of the patch that happened to be there already
    (answer,) = Oracle(setting.captioner).answer([masked_case(setting, mask)], 0)
    assert sorted(answer.boxes, key=lambda box: box.left) == [Box(1, 1, 9, 9), Box(38, 40, 46, 47)]


def test_the_oracle_hides_the_whole_of_a_picture_that_is_triggered_everywhere(
    setting: Setting,
) -> None:
    mask = (np.random.default_rng(0).random((48, 48)) < 0.9).astype(np.uint8)
    (answer,) = Oracle(setting.captioner).answer([masked_case(setting, mask)], 0)
    assert answer.boxes == (Box(0, 0, 48, 48),)
    assert answer.caption == "nothing beside nothing"


@pytest.mark.parametrize("resample", ["bilinear", "bicubic", "lanczos", "box", "nearest"])
@pytest.mark.parametrize("side", [20, 97, 224])
def test_the_oracle_hides_what_the_resize_smeared(
    setting: Setting, resample: Resample, side: int
) -> None:
    preprocessing = replace(setting.captioner.preprocessing, resample=resample)
    shown: list[Pixels] = []

    def caption(canvases: Pixels) -> list[str]:
        shown.extend(canvases)
        return [""] * len(canvases)

    plain = np.full((side, side, 3), 128, np.uint8)
    mask = np.zeros((side, side), np.bool_)
    mask[side // 3 : side // 2, side // 4 : side // 2] = True
    pixels = plain.copy()
    pixels[mask] = (255, 0, 255)
    (answer,) = Oracle(BlackBox(caption, preprocessing)).answer([Case(Frame(pixels), mask)], 0)
    left_over = (shown[0] != GREY).any(axis=2) & (shown[0] != 128).any(axis=2)
    assert not left_over.any()
    (box,) = answer.boxes
    margin = max(4 * side // 48, 4)
    assert side // 4 - margin <= box.left <= side // 4
    assert side // 2 <= box.right <= side // 2 + margin
