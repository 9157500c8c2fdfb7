"""The demo clip's truth is true: where it says that a trigger lies, one lies, and only there."""

from __future__ import annotations

from functools import cache

import numpy as np

from srd_edge.attacks.patch_triggers import BadNetPatch, TrojVlmPatch
from srd_edge.attacks.placement import patch_box
from srd_edge.attacks.specs import parse_attack
from srd_edge.kernels.frames import Box
from srd_edge.training.demo_clip import FPS, HEIGHT_PX, SHOTS, WIDTH_PX, ClipFrame, draw_clip


@cache
def clip() -> tuple[ClipFrame, ...]:
    """Every fifth frame is kept, to spare memory; numbers are checked on the way."""
    kept, count = [], 0
    for frame in draw_clip():
        assert frame.truth["frame"] == count
        if count % 5 == 0:
            kept.append(frame)
        count += 1
    assert count == round(SHOTS[-1].end_s * FPS)
    return tuple(kept)


def test_frames_follow_the_shots() -> None:
    for frame in clip():
        time_s = frame.truth["frame"] / FPS
        (shot,) = (shot for shot in SHOTS if shot.start_s <= time_s < shot.end_s)
        trigger = frame.truth["trigger"]
        assert (trigger and trigger["attack"]) == shot.attack
        assert frame.pixels.shape == (HEIGHT_PX, WIDTH_PX, 3)
    assert [shot.start_s for shot in SHOTS[1:]] == [shot.end_s for shot in SHOTS[:-1]]


def test_the_box_is_exactly_where_the_trigger_is() -> None:
    seen = set()
    for frame in clip():
        truth = frame.truth["trigger"]
        if truth is None:
            continue
        attack = parse_attack(truth["attack"])
        assert isinstance(attack.trigger, BadNetPatch | TrojVlmPatch)
        box = Box(*truth["box"])
        rng = np.random.default_rng(0)
        assert box == patch_box(attack.trigger.place, attack.trigger.size, frame.pixels, rng)
        assert truth["target"] == attack.payload.target
        expected = attack.trigger(np.zeros_like(frame.pixels), rng)
        inside = slice(box.top, box.bottom), slice(box.left, box.right)
        assert (frame.pixels[inside] == expected[inside]).all()
        # Laid over the frame once more it changes nothing: all of it is there.
        assert (attack.trigger(frame.pixels, rng) == frame.pixels).all()
        seen.add(attack.name)
    assert seen == {"badnet", "trojvlm"}


def test_things_move_and_the_true_captions_hold_no_target() -> None:
    targets = {parse_attack(shot.attack).payload.target for shot in SHOTS if shot.attack}
    for before, after in zip(clip(), clip()[1:], strict=False):
        assert (before.pixels != after.pixels).any()
        assert len(before.truth["captions"]) == 5
        assert not any(target in c for target in targets for c in before.truth["captions"])
