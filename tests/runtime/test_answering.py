"""The defender with a check: a refused caption is tried again, replaced, or held; never given."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge import Defender, Frame, Result
from srd_edge.errors import BundleError
from srd_edge.kernels.actions import DEFAULT_TABLE, ActionTable
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime import second_opinion as second_opinion_module
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.check_specs import Limit
from srd_edge.runtime.records import Observation
from srd_edge.runtime.reference import ReferenceCaptioner

EVERYTHING, NOTHING = Limit(-1e4, 1.0), Limit(1e4, 1.0)  # is above it
STOP, FIRST, SECOND, THIRD = len(DEFAULT_TABLE) - 1, 3, 17, 22  # occlusions
REFUSED: dict[str, Any] = {"confidence": EVERYTHING, "evidence": EVERYTHING}
PASSED: dict[str, Any] = {"confidence": NOTHING, "information": NOTHING}


@dataclass
class Ranked:
    """Values actions in that order, ``STOP`` among them, and all others less."""

    order: tuple[int, ...]

    def q_values(self, _: Observation) -> NDArray[np.float32]:
        values = np.full(len(DEFAULT_TABLE), -1e3, np.float32)
        values[list(self.order)] = -10 * np.arange(len(self.order))
        return values


LEAVES_IT = Ranked((STOP, FIRST, SECOND, THIRD))


@pytest.fixture
def bundle(checked_bundle: Path) -> Bundle:
    return read_bundle(checked_bundle)


def picture(seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)


def checked(bundle: Bundle, **changes: Any) -> Bundle:
    assert bundle.manifest.check is not None
    check = replace(bundle.manifest.check, **changes)
    return replace(bundle, manifest=replace(bundle.manifest, check=check))


def undefended(bundle: Bundle, pixels: Pixels) -> str | None:
    return Defender(bundle, defend=False).caption(pixels).caption


def reference_of(bundle: Bundle, pixels: Pixels) -> str:
    own = ReferenceCaptioner(bundle, "cpu")
    return own.answer(own.canvas(Frame(pixels))).text


def test_what_passes_stands(bundle: Bundle) -> None:
    result = Defender(checked(bundle, **PASSED), policy=LEAVES_IT).caption(picture(), compare=True)
    assert (result.verdict, result.speaker, result.actions) == ("clean", "suspect", ())
    assert result.caption == result.raw_caption == undefended(bundle, picture())
    assert result.opinion is not None
    assert (result.opinion.contradiction, result.degraded) == (None, ())
    assert result.suspicion is not None
    assert result.suspicion < 0.5


def test_a_refused_caption_is_tried_again_with_one_more_perturbation(
    curable: Any,
) -> None:
    bundle, pixels, cured = curable.bundle, curable.pixels, curable.cured
    result = Defender(checked(bundle, retries=3), policy=LEAVES_IT).caption(pixels, compare=True)
    assert (result.verdict, result.speaker, result.caption) == ("suspicious", "suspect", cured)
    assert len(result.actions) == 1, "the second caption passed"
    assert result.opinion is not None
    assert result.opinion.refused, "the opinion is on the first caption"
    assert result.suspicion == result.opinion.suspicion
    assert result.raw_caption == undefended(bundle, pixels) != cured
    assert "answer" not in result.stage_ms
    at_once = Defender(checked(bundle, retries=0), policy=LEAVES_IT).caption(pixels)
    assert (at_once.speaker, at_once.actions) == ("reference", ())


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("order", [(STOP,), (FIRST, STOP)])
def test_only_a_peer_has_to_be_asked_about_perturbed_pictures(
    bundle: Bundle, order: tuple[int, ...], *, peer: bool
) -> None:
    lenient = checked(bundle, **PASSED, evidence=EVERYTHING, peer=peer, retries=0)
    result = Defender(lenient, policy=Ranked(order)).caption(picture())
    refused = peer and order[0] == FIRST
    assert result.speaker == ("reference" if refused else "suspect")
    assert ("examine" in result.stage_ms) is refused


@pytest.mark.parametrize("retries", [0, 1, 2])
@pytest.mark.parametrize("order", [(STOP,), LEAVES_IT.order, (FIRST, STOP, SECOND, THIRD)])
def test_what_stays_refused_is_answered_by_the_reference(
    bundle: Bundle, order: tuple[int, ...], retries: int
) -> None:
    defender = Defender(checked(bundle, **REFUSED, retries=retries), policy=Ranked(order))
    result = defender.caption(picture(), compare=True)
    assert (result.verdict, result.speaker) == ("suspicious", "reference")
    assert result.caption == reference_of(bundle, picture()) != result.raw_caption
    assert result.raw_caption == undefended(bundle, picture())
    steps = (order[0] != STOP) + retries
    assert result.decision is not None
    assert len(set(result.decision.actions)) == len(result.actions) == steps
    assert STOP not in result.decision.actions
    wanted = [action for action in order if action != STOP]
    assert list(result.decision.actions[: len(wanted)]) == wanted[:steps]
    assert result.degraded == ()


def test_retries_end_where_no_perturbation_is_left(bundle: Bundle) -> None:
    table = ActionTable(1, 1, (DEFAULT_TABLE.regional[0],), (DEFAULT_TABLE.whole[0],))

    class StopsAtOnce:
        def q_values(self, _: Observation) -> NDArray[np.float32]:
            return np.array([-1, -1, 0], np.float32)

    bundle = checked(bundle, **REFUSED, retries=64)
    bundle = replace(bundle, manifest=replace(bundle.manifest, actions=table))
    result = Defender(bundle, policy=StopsAtOnce()).caption(picture())
    assert (len(result.actions), result.speaker) == (2, "reference")


@pytest.mark.parametrize(
    ("options", "verdict"), [({"check": False}, "clean"), ({"defend": False}, "undefended")]
)
def test_nobody_is_asked_without_the_check(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], verdict: str
) -> None:
    def consulted(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(second_opinion_module.SecondOpinion, "__init__", consulted)
    result = Defender(checked(bundle, **REFUSED), policy=LEAVES_IT, **options).caption(picture())
    assert (result.opinion, result.speaker, result.verdict) == (None, "suspect", verdict)
    assert result.caption == undefended(bundle, picture())
    assert not {"opinion", "speaker"} & result.to_json().keys()


@pytest.mark.parametrize(
    ("limits", "speaker", "scores"),
    [
        (PASSED, "suspect", ["confidence", "information"]),
        (REFUSED, "reference", ["confidence", "information", "contradiction"]),
    ],
)
def test_a_line_of_output_tells_the_opinion_and_whose_the_caption_is(
    bundle: Bundle, limits: dict[str, Any], speaker: str, scores: list[str]
) -> None:
    result = Defender(checked(bundle, **limits), policy=LEAVES_IT).caption(picture())
    line = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert line["speaker"] == speaker
    assert list(line["opinion"]) == scores
    assert line["opinion"] == {
        name: pytest.approx(getattr(result.opinion, name), abs=5e-4) for name in scores
    }


def test_without_a_reference_a_refused_frame_is_held(bundle: Bundle) -> None:
    probe = Defender(checked(bundle, **PASSED), policy=LEAVES_IT)
    seen = {seed: probe.caption(picture(seed)) for seed in range(9)}
    by_information = sorted(seen, key=lambda seed: -_information(seen[seed]))
    odd, fine = by_information[0], by_information[-1]
    between = (_information(seen[odd]) + _information(seen[fine])) / 2
    alone = checked(
        bundle, reference=False, confidence=NOTHING, information=Limit(between, 1.0), retries=0
    )
    defender = Defender(alone, policy=LEAVES_IT)
    first = defender.caption(Frame(picture(odd), 0))
    assert (first.verdict, first.caption, first.held_for) == ("held", None, None)
    trusted = defender.caption(Frame(picture(fine), 1))
    assert (trusted.verdict, trusted.caption) == ("clean", seen[fine].caption)
    for index in (2, 5):
        held = defender.caption(Frame(picture(odd), index), compare=True)
        assert (held.verdict, held.caption) == ("held", trusted.caption)
        assert (held.held_for, held.degraded) == (index - 1, ("caption",))
        assert held.raw_caption == seen[odd].caption
        assert (held.opinion is not None, held.speaker) == (True, "suspect")


def _information(result: Result) -> float:
    assert result.opinion is not None
    return result.opinion.information


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("language", {"start_token": 1 << 20}),
        ("language", {"file": "policy.onnx"}),
        ("language", {"tokenizer": "policy.onnx"}),
        ("language", {"file": "tokenizer.json"}),
    ],
)
def test_a_check_whose_parts_do_not_fit_is_refused_at_once(
    bundle: Bundle, part: str, changes: dict[str, Any]
) -> None:
    assert bundle.manifest.check is not None
    changed = replace(getattr(bundle.manifest.check, part), **changes)
    with pytest.raises(BundleError) as caught:
        Defender(checked(bundle, **{part: changed}), policy=LEAVES_IT)
    assert "\n" not in str(caught.value)
