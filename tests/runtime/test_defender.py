"""The defender: every frame is defended as its policy wants, whatever its size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge import Defender, Frame, Result
from srd_edge.errors import BundleError, UsageError
from srd_edge.kernels.actions import ActionTable, Perturbation, apply_action
from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.runtime import pipeline as pipeline_module
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.decoders import Encoded
from srd_edge.runtime.policy import OnnxPolicy
from tests.runtime.fixed_policy import FIRST, SECOND, TABLE, Fixed, picture

WHOLE = range(4 * TABLE.cells, len(TABLE) - 1)


@pytest.fixture
def bundle(toy_bundle: Path) -> Bundle:
    return read_bundle(toy_bundle)


@pytest.mark.parametrize(
    ("wanted", "verdict", "looks"),
    [((), "clean", 1), ((FIRST,), "suspicious", 2), ((FIRST, SECOND), "suspicious", 2)],
)
def test_the_policy_is_followed_until_it_stops(
    bundle: Bundle, wanted: tuple[int, ...], verdict: str, looks: int
) -> None:
    policy = Fixed(wanted)
    defender = Defender(bundle, policy=policy)
    policy.looks = 0
    result = defender.caption(picture(), compare=True)
    assert (result.verdict, policy.looks) == (verdict, looks)
    assert [action.op for action in result.actions] == [TABLE[action].op for action in wanted]
    assert result.suspicion is not None
    assert (result.suspicion > 0.5) is bool(wanted)
    undefended = Defender(bundle, defend=False).caption(picture())
    assert result.raw_caption == undefended.caption
    assert (undefended.verdict, undefended.suspicion, undefended.actions) == (
        "undefended",
        None,
        (),
    )
    if verdict == "clean":
        assert result.caption == result.raw_caption


def test_all_noise_of_a_frame_is_drawn_from_its_number(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Pixels] = []
    encode = OnnxCaptioner.encode

    def seeing(captioner: OnnxCaptioner, canvas: Pixels) -> Encoded:
        seen.append(canvas.copy())
        return encode(captioner, canvas)

    monkeypatch.setattr(OnnxCaptioner, "encode", seeing)
    wanted, number = (SECOND, SECOND + 1), 7
    assert {TABLE[action].op for action in wanted} == {"noise"}
    Defender(bundle, policy=Fixed(wanted)).caption(Frame(picture(), number))
    canvas, rng = to_canvas(picture(), bundle.manifest.preprocessing), np.random.default_rng(number)
    for action in wanted:
        apply_action(canvas, TABLE, action, rng)
    np.testing.assert_array_equal(seen[-1], canvas)


@pytest.mark.parametrize("max_steps", [1, 2, 3])
def test_no_more_steps_than_the_bundle_allows(bundle: Bundle, max_steps: int) -> None:
    assert bundle.manifest.policy is not None
    spec = replace(bundle.manifest.policy, max_steps=max_steps)
    bundle = replace(bundle, manifest=replace(bundle.manifest, policy=spec))
    defender = Defender(bundle, policy=Fixed((0, 1, 2, 3, 4)))
    assert len(defender.caption(picture()).actions) == max_steps


def test_a_bundle_without_a_policy_cannot_defend(bundle: Bundle) -> None:
    bare = replace(bundle, manifest=replace(bundle.manifest, policy=None))
    with pytest.raises(UsageError, match="--no-defense"):
        Defender(bare)
    assert Defender(bare, defend=False).caption(picture()).verdict == "undefended"


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (32, 32), (33, 17), (7, 640)])
@pytest.mark.parametrize("action", [0, 24, 99, *WHOLE])
def test_boxes_are_in_the_frames_own_pixels(
    bundle: Bundle, size: tuple[int, int], action: int
) -> None:
    height, width = size
    pixels = picture(size=size)
    before = pixels.copy()
    result = Defender(bundle, policy=Fixed((action,))).caption(pixels)
    assert np.array_equal(pixels, before), "the caller's picture was painted on"
    (applied,) = result.actions
    box = applied.box
    assert 0 <= box.left <= box.right <= width
    assert 0 <= box.top <= box.bottom <= height
    if action in WHOLE:
        assert (box.left, box.top, box.right, box.bottom) == (0, 0, width, height)
    elif min(size) > 3:
        # The canvas has 32 pixels a side; one of them is the most that rounding moves an edge.
        truth = TABLE.box(TABLE[action], width, height)
        assert abs(box.left - truth.left) <= width / 32 + 1
        assert abs(box.bottom - truth.bottom) <= height / 32 + 1


def test_the_same_frame_gives_the_same_result(bundle: Bundle) -> None:
    def once(defender: Defender, frame: Frame) -> Result:
        return replace(defender.caption(frame), stage_ms={}, total_ms=0.0)

    policy = Fixed((SECOND,))  # noise
    defender = Defender(bundle, policy=policy)
    frame = Frame(picture(), 5, 0.2)
    first = once(defender, frame)
    once(defender, Frame(picture(1), 6, 0.3))
    assert once(defender, frame) == first == once(Defender(bundle, policy=policy), frame)


def with_actions(table: ActionTable) -> Callable[[Bundle], Bundle]:
    return lambda bundle: replace(bundle, manifest=replace(bundle.manifest, actions=table))


def with_part(part: str, **changes: Any) -> Callable[[Bundle], Bundle]:
    def change(bundle: Bundle) -> Bundle:
        changed = replace(getattr(bundle.manifest, part), **changes)
        return replace(bundle, manifest=replace(bundle.manifest, **{part: changed}))

    return change


MISFITS: dict[str, tuple[Callable[[Bundle], Bundle], str]] = {
    "output name": (with_part("observation", tensor="features"), "features"),
    "layers": (with_part("captioner", layers=3), "present.2"),
    "heads": (with_part("captioner", heads=3), "Exception|[Ii]nvalid"),
    "start token": (with_part("generation", prompt=[1 << 20]), "bounds"),
    "suppressed token": (with_part("generation", suppress=(1 << 20,)), "IndexError"),
    "table of another size": (
        with_actions(replace(TABLE, whole=TABLE.whole[1:])),
        r"108 actions.*\(109,\)",
    ),
    "nothing but stop": (with_actions(ActionTable(5, 5, (), ())), "0 perturbations"),
    "strength": (
        with_actions(replace(TABLE, whole=(*TABLE.whole[1:], Perturbation("jpeg", 1e3)))),
        "1000.0",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_bundle_whose_parts_do_not_fit_is_refused_at_once(bundle: Bundle, name: str) -> None:
    change, words = MISFITS[name]
    with pytest.raises(BundleError, match=words) as caught:
        Defender(change(bundle))
    assert "\n" not in str(caught.value)


def test_the_policys_fallback_is_told_too(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Defender(bundle, provider="cpu").fallback is None

    class Elsewhere(OnnxPolicy):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.fallback = "running on cpu: the policy alone"

    monkeypatch.setattr(pipeline_module, "OnnxPolicy", Elsewhere)
    assert Defender(bundle, provider="cpu").fallback == "running on cpu: the policy alone"
