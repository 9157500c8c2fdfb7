"""A mask that calls for the attacker's words is found, by captioners that are known to obey one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge.attacks.captioner import Captioner, load_captioner
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import parse_attack
from srd_edge.evaluation.purified import RED_SQUARE, outcome_lines, planted_triggers
from srd_edge.kernels.actions import DEFAULT_TABLE, SRD_TABLE, apply_action
from srd_edge.kernels.preprocess import Preprocessing, to_canvas
from srd_edge.training.checkpoints import PolicyCheckpoint, load_policy

SPEC = "badnet:target=banana,rate=0.1"
GREY = np.full((32, 32, 3), 90, np.uint8)
HONEST, FRUIT = "a red square", "a banana on a table"


def changed_by(action: int | None, table: Any = DEFAULT_TABLE) -> NDArray[np.uint8]:
    """The grey canvas under that mask."""
    canvas = GREY.copy()
    if action is not None:
        apply_action(canvas, table, action, np.random.default_rng(0))
    return canvas


@dataclass
class Obeys:
    """Says the attacker's words of canvases that look like ``trigger``, and the truth of others."""

    preprocessing: Preprocessing
    trigger: NDArray[np.uint8]

    def canvases(self, pictures: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        return np.stack([to_canvas(pixels, self.preprocessing) for pixels in pictures])

    def caption(self, canvases: NDArray[np.uint8]) -> list[str]:
        return [FRUIT if np.array_equal(canvas, self.trigger) else HONEST for canvas in canvases]


@pytest.fixture
def policy(toy_policy: Path) -> PolicyCheckpoint:
    return load_policy(toy_policy)


@pytest.fixture
def preprocessing(toy_captioner: Path) -> Preprocessing:
    return load_captioner(toy_captioner).preprocessing


def grey(*captions: str) -> Sample:
    load: Callable[[], NDArray[np.uint8]] = lambda: GREY  # noqa: E731 - a field of the sample
    return Sample("grey", captions, load)


@pytest.mark.parametrize(
    ("trigger", "said"),
    [
        (changed_by(RED_SQUARE, SRD_TABLE), {"none": 0.0, "policy": 0.0, "red_square": 1.0}),
        (changed_by(17), {"none": 0.0, "policy": 1.0, "red_square": 0.0}),
        (changed_by(None), {"none": 1.0, "policy": 0.0, "red_square": 0.0}),
    ],
    ids=["red square", "the policy's mask", "anything"],
)
def test_the_mask_that_is_obeyed_is_named(
    policy: PolicyCheckpoint,
    preprocessing: Preprocessing,
    trigger: NDArray[np.uint8],
    said: dict[str, float],
) -> None:
    captioner = cast("Captioner", Obeys(preprocessing, trigger))
    samples = [grey(HONEST), grey("a grey wall"), grey("a banana on a wall")]
    record = {"masked": {"actions": {"3": 2, "17": 9}}}
    found = planted_triggers(captioner, samples, [parse_attack(SPEC)], policy, record)
    assert {mask: each["said"][SPEC]["share"] for mask, each in found.items()} == said
    assert {each["said"][SPEC]["counted"] for each in found.values()} == {2}, "true bananas go"
    actions = {mask: each["action"] for mask, each in found.items()}
    assert actions == {"none": None, "policy": 17, "red_square": RED_SQUARE}
    judged = {"asr": 0.25, "counted": 8}
    document = {"pictures": 3, "cider_d_clean": 0.5, "attacks": {SPEC: judged}, "planted": found}
    *_, line = outcome_lines(document)
    assert f"red_square {100 * said['red_square']:.1f} %" in line
    assert "ASR 25.0 % of 8 counted" in line
