"""The change gate: what stands still keeps its caption; a small sticker does not stand still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge import Defender, Frame
from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.budget import LatencyBudget
from srd_edge.runtime.bundle import read_bundle
from srd_edge.runtime.gate import LEVEL, ChangeGate

SCENE = (
    np.random.default_rng(0).integers(40, 200, (45, 80, 3), np.uint8).repeat(16, 0).repeat(16, 1)
)


def noisy(seed: int, scene: Pixels = SCENE) -> Pixels:
    """A camera's picture of a scene where nothing moves."""
    noise = np.random.default_rng(seed).normal(0, 4, scene.shape)
    return np.clip(scene + noise, 0, 255).astype(np.uint8)


def stickered(top: int, left: int, scene: Pixels = SCENE) -> Pixels:
    changed = scene.copy()
    changed[top : top + 12, left : left + 12] = [255, 0, 0]
    return changed


@pytest.fixture
def defender(toy_bundle: Path) -> Defender:
    return Defender(read_bundle(toy_bundle), gate_level=LEVEL, provider="cpu")


def test_a_still_scene_stands_and_a_sticker_anywhere_does_not() -> None:
    gate = ChangeGate()
    assert not gate.still(SCENE)
    gate.captioned(noisy(0))
    assert gate.still(noisy(1))
    for top, left in ((0, 0), (708, 1268), (354, 634), (5, 1003), (701, 7)):
        assert not gate.still(noisy(2, stickered(top, left)))


def test_a_camera_may_write_over_the_picture_that_was_captioned() -> None:
    gate, buffer = ChangeGate(), noisy(0)
    gate.captioned(buffer)
    buffer[:] = stickered(354, 634)
    assert not gate.still(buffer)
    assert gate.still(noisy(1))


def test_what_creeps_in_is_noticed() -> None:
    gate = ChangeGate()
    gate.captioned(SCENE)
    faded = [SCENE + np.uint8(step) for step in range(1, 13)]
    assert [gate.still(picture) for picture in faded] == [step <= LEVEL for step in range(1, 13)]


def test_a_picture_of_another_size_is_another_picture() -> None:
    gate = ChangeGate()
    gate.captioned(SCENE)
    assert not gate.still(np.ascontiguousarray(SCENE[:-1]))


@pytest.mark.parametrize("level", [-1.0, 256.0, float("nan")])
def test_a_level_is_one_of_grey(level: float) -> None:
    with pytest.raises(UsageError, match="0 to 255"):
        ChangeGate(level)


def test_the_last_result_stands_for_a_frame_that_looks_the_same(defender: Defender) -> None:
    first = defender.caption(Frame(noisy(0), 0, 0.0))
    assert first.unchanged_for is None
    assert "gate" not in first.stage_ms
    second = defender.caption(Frame(noisy(1), 1, 0.5))
    assert (second.frame, second.time_s, second.unchanged_for) == (1, 0.5, 1)
    assert second.caption == first.caption
    assert (second.verdict, second.suspicion) == (first.verdict, first.suspicion)
    assert list(second.stage_ms) == ["gate"]
    assert second.to_json()["unchanged_for"] == 1
    third = defender.caption(Frame(stickered(300, 500), 2))
    assert third.unchanged_for is None
    assert {"gate", "encode", "policy"} <= set(third.stage_ms)
    # It is compared with the frame that was captioned last, which is now the third.
    assert defender.caption(Frame(noisy(3), 3)).unchanged_for is None


def test_forgetting_ends_it(defender: Defender) -> None:
    defender.caption(Frame(SCENE, 0))
    defender.forget()
    assert defender.caption(Frame(SCENE, 1)).unchanged_for is None
    assert defender.caption(Frame(SCENE, 2)).unchanged_for == 1


def test_a_comparison_that_was_not_made_is_made(defender: Defender) -> None:
    defender.caption(Frame(SCENE, 0))
    compared = defender.caption(Frame(SCENE, 1), compare=True)
    assert compared.unchanged_for is None
    assert compared.raw_caption is not None
    again = defender.caption(Frame(SCENE, 2), compare=True)
    assert (again.unchanged_for, again.raw_caption) == (1, compared.raw_caption)


def test_what_was_made_in_a_hurry_does_not_stand(toy_bundle: Path) -> None:
    hurried = Defender(
        read_bundle(toy_bundle), gate_level=LEVEL, budget=LatencyBudget(1e-6), provider="cpu"
    )
    results = [hurried.caption(Frame(SCENE, number)) for number in range(3)]
    assert all(result.degraded for result in results)
    assert [result.unchanged_for for result in results] == [None] * 3


def test_without_a_gate_every_frame_is_captioned(toy_bundle: Path) -> None:
    plain = Defender(read_bundle(toy_bundle), provider="cpu")
    results: list[Any] = [plain.caption(Frame(SCENE, number)) for number in range(2)]
    assert all("encode" in result.stage_ms for result in results)
