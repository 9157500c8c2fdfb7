"""SRD as coded: its rewards, its network, and what it does to a picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from srd_edge.attacks.samples import Sample
from srd_edge.errors import UsageError
from srd_edge.evaluation import srd_as_coded as srd_module
from srd_edge.evaluation.contestants import BlackBox, Case, Setting, clean_case, triggered_case
from srd_edge.evaluation.srd_as_coded import (
    TRIES,
    SrdScores,
    nature_cnn,
    reward,
    srd_as_coded,
)
from srd_edge.kernels.actions import SRD_TABLE
from srd_edge.kernels.frames import Pixels

OVER_THE_PATCH = 199
"""40 px of 224 over the last of the 10 x 10 places."""
RED = (255, 0, 0)


class Prefers(nn.Module):
    """Always wants the same square."""

    def __init__(self, action: int) -> None:
        super().__init__()
        self.action = action

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.shape[1:] == (3, 224, 224)
        assert 0 <= pixels.min() <= pixels.max() <= 1
        values = torch.zeros(len(pixels), len(SRD_TABLE))
        values[:, self.action] = 1
        return values


def recorded(setting: Setting) -> tuple[Setting, list[Pixels]]:
    shown: list[Pixels] = []

    def caption(canvases: Pixels) -> list[str]:
        shown.extend(canvases)
        return setting.captioner.caption_canvases(canvases)

    box = BlackBox(caption, setting.captioner.preprocessing)
    return replace(setting, captioner=box), shown


def triggered(setting: Setting, samples: list[Sample]) -> list[Case]:
    return [triggered_case(sample, i, setting.attack, 0) for i, sample in enumerate(samples)]


@pytest.mark.parametrize(
    ("semantics", "fluency", "expected"),
    [
        # Semantics up by .1 or more.
        (0.1, 0.5, 3),
        (0.9, 2.0, 3),
        (0.1, 0.49, 2),
        (0.1, 0.1, 2),
        (0.1, 0.09, 1),
        (0.1, 0.0, 1),
        (0.1, -0.01, -1),
        (0.1, -0.49, -1),
        (0.1, -0.5, -2),
        (0.9, -3.0, -2),
        # Not, but fluency up by .5 or more.
        (0.09, 0.5, 1),
        (0.0, 0.5, 1),
        (-0.19, 0.5, 1),
        (-0.2, 0.5, -2),
        (-0.9, 9.0, -2),
        # Neither.
        (0.09, 0.49, -1),
        (0.0, 0.0, -1),
        (-0.09, 0.49, -1),
        (-0.09, -9.0, -1),
        (-0.1, 0.49, -2),
        (-0.9, -0.9, -2),
    ],
)
def test_every_branch_of_the_reward_and_its_boundary(
    semantics: float, fluency: float, expected: int
) -> None:
    assert reward(semantics, fluency) == expected


def test_rewards_are_for_what_changed_against_the_raw_caption(setting: Setting) -> None:
    assert setting.sentences is not None
    assert setting.language is not None
    scores = SrdScores(setting.sentences, setting.language)
    reference = "red beside green"  # 5 / 3 nats a token
    # Semantics 0 -> 1, fluency exp(5/3 - 8) -> 1: both up by more than .5.
    assert scores.rewards("banana", reference, [reference, "banana", ""]) == [3, -1, 0]
    # The other way round: semantics 1 -> 0.
    assert scores.rewards(reference, reference, ["banana", reference]) == [-2, -1]
    # Semantics 2/3 -> 1, fluency unchanged.
    assert scores.rewards("red beside white", reference, [reference]) == [1]
    # From nothing to everything, and a reference that says nothing.
    assert scores.rewards("", reference, [reference]) == [3]
    assert scores.rewards(reference, "", [reference, "", "banana"]) == [-1, 0, -1]


def test_the_network_is_that_of_stable_baselines3() -> None:
    from gymnasium import spaces
    from stable_baselines3.dqn.policies import CnnPolicy

    torch.manual_seed(5)
    theirs = CnnPolicy(
        spaces.Box(0, 255, (3, 224, 224), np.uint8), spaces.Discrete(500), lambda _: 1e-4
    ).q_net
    ours = nature_cnn(5)
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    assert all(torch.equal(own, other) for own, other in pairs)
    assert sum(own.numel() for own, _ in pairs) == pytest.approx(19e6, rel=0.02)
    picture = np.random.default_rng(0).integers(0, 256, (1, 3, 224, 224), np.uint8)
    pixels = torch.from_numpy(picture)
    with torch.inference_mode():
        assert torch.allclose(ours(pixels / 255), theirs(pixels), atol=1e-6)


def test_making_the_network_leaves_others_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    nature_cnn(9)
    assert torch.equal(torch.rand(4), expected)


def test_a_square_over_the_patch_cures_and_a_repeat_is_paid_for(
    setting: Setting, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(srd_module, "EPSILON", 0.0)
    setting, shown = recorded(setting)
    contestant = replace(srd_as_coded(setting), network=lambda _: Prefers(OVER_THE_PATCH))
    answers = contestant.answer(triggered(setting, samples), 0)
    assert [answer.caption for answer in answers] == [sample.captions[0] for sample in samples]
    box = SRD_TABLE.box(SRD_TABLE[OVER_THE_PATCH], 48, 48)
    assert {answer.boxes for answer in answers} == {(box,)}
    assert {(a.captioner_passes, a.policy_passes, a.alarm) for a in answers} == {
        (1 + TRIES, TRIES, None)
    }
    assert len(shown) == 2 * len(samples)


def test_a_clean_picture_is_painted_too(
    setting: Setting, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no action that leaves it alone, and no way back: a 200 px square is in all tries."""
    monkeypatch.setattr(srd_module, "EPSILON", 0.0)
    contestant = replace(srd_as_coded(setting), network=lambda _: Prefers(444))
    green = next(i for i, sample in enumerate(samples) if "red" not in sample.captions[0])
    (answer,) = contestant.answer([clean_case(samples[green], green)], 0)
    assert answer.caption == "red beside red"
    (box,) = answer.boxes
    assert box.width * box.height > 0.6 * 48 * 48


def test_every_try_is_on_the_original_and_the_best_is_kept(
    setting: Setting, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(srd_module, "EPSILON", 1.0)
    setting, shown = recorded(setting)
    contestant = srd_as_coded(setting)
    several = 0
    for number, case in enumerate(triggered(setting, samples)):
        shown.clear()
        (answer,) = contestant.answer([case], 0)
        original, *painted = shown
        assert np.array_equal(original, case.frame.pixels)
        assert TRIES - 1 <= len(painted) <= TRIES  # a repeat is rare
        assert answer.policy_passes == 0
        for canvas in painted:
            changed = (canvas != original).any(axis=2)
            assert (canvas[changed] == RED).all()
            rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            whole = canvas[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert (whole == RED).all()
        raw, *said = setting.captioner.caption(shown)
        rewards = contestant.scores.rewards(raw, samples[number].captions[0], said)
        assert rewards[said.index(answer.caption)] == max(rewards)
        (box,) = answer.boxes
        kept = painted[rewards.index(max(rewards))]
        assert (kept[box.top : box.bottom, box.left : box.right] == RED).all()
        several += len(set(rewards)) > 1
    assert several > 3


def test_one_try_in_twenty_is_drawn_at_random(setting: Setting, samples: list[Sample]) -> None:
    contestant = replace(srd_as_coded(setting), network=lambda _: Prefers(0))
    cases = [clean_case(samples[i % 30], i) for i in range(600)]
    looks = [answer.policy_passes for answer in contestant.answer(cases, 0)]
    assert np.mean(looks) / TRIES == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("absent", ["language", "sentences", "reference"])
def test_what_is_missing_is_an_error(setting: Setting, absent: str) -> None:
    bare = replace(
        setting,
        language=None if absent == "language" else setting.language,
        sentences=None if absent == "sentences" else setting.sentences,
        reference=None if absent == "reference" else setting.reference,
    )
    with pytest.raises(UsageError, match="reference captioner"):
        srd_as_coded(bare)
