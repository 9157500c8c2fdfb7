"""What a second opinion refuses: scores above their limits, stricter ones, and no numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge.kernels.preprocess import to_canvas
from srd_edge.runtime.budget import FrameTimer, LatencyBudget, StageCosts
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.check_specs import FROM_MEDIAN_TO_LIMIT, Limit
from srd_edge.runtime.records import Opinion, Result
from srd_edge.runtime.token_rules import TokenRules
from tests.runtime.opinions import EVERYTHING, FRAME, NOTHING, judged, opinion_of, said_of


@pytest.fixture
def bundle(checked_bundle: Path) -> Bundle:
    return read_bundle(checked_bundle)


def weight_of(bundle: Bundle) -> float:
    assert bundle.manifest.check is not None
    return bundle.manifest.check.confidence_weight


@pytest.mark.parametrize(
    ("cheap", "evidence", "reference", "refused"),
    [
        (NOTHING, EVERYTHING, True, False),
        (EVERYTHING, NOTHING, True, False),
        (EVERYTHING, EVERYTHING, True, True),
        (NOTHING, EVERYTHING, False, False),
        (EVERYTHING, NOTHING, False, True),
    ],
)
def test_what_is_refused(
    bundle: Bundle, cheap: Limit, evidence: Limit, *, reference: bool, refused: bool
) -> None:
    here = opinion_of(
        bundle,
        confidence=cheap,
        information=cheap,
        evidence=evidence,
        reference=reference,
    )
    opinion = judged(here, said_of(bundle))
    assert opinion.refused is refused
    assert (opinion.suspicion > 0.5) is refused
    assert (opinion.contradiction is not None) is (reference and cheap is EVERYTHING)


@pytest.mark.parametrize(("excess", "suspicion"), [(-1e9, 0), (-1, 0.2689), (0, 0.5), (2, 0.8808)])
def test_suspicion_is_even_at_the_limit(excess: float, suspicion: float) -> None:
    opinion = Opinion(-0.1, 50.0, None, excess)
    assert opinion.suspicion == pytest.approx(suspicion, abs=1e-4)
    assert opinion.refused is (excess > 0)
    assert Limit(3.0, 2.0).excess(3 + 2 * excess) == pytest.approx(excess)


@pytest.mark.parametrize("score", ["confidence", "information", "evidence"])
def test_a_score_at_its_limit_passes_and_one_above_does_not(bundle: Bundle, score: str) -> None:
    said = said_of(bundle)
    is_last = score == "evidence"
    others: dict[str, Any] = {
        "confidence": EVERYTHING if is_last else NOTHING,
        "information": NOTHING,
    }
    full = judged(opinion_of(bundle, **others | {"confidence": EVERYTHING}), said)
    assert full.contradiction is not None
    evidence = full.contradiction + weight_of(bundle) * full.confidence
    value = evidence if is_last else getattr(full, score)
    for limit, passes in ((Limit(value, 3.0), True), (Limit(value - 1e-6, 3.0), False)):
        here = opinion_of(bundle, **others | {score: limit}, reference=is_last)
        opinion = judged(here, said)
        assert opinion.refused is not passes
        assert opinion.suspicion == pytest.approx(0.5, abs=1e-6)


def test_after_a_refusal_a_caption_has_to_be_as_good_as_the_median(bundle: Bundle) -> None:
    said = said_of(bundle)
    certain = replace(said, log_probabilities=tuple(0.0 for _ in said.log_probabilities))
    doubtful = replace(said, log_probabilities=tuple(p - 9 for p in said.log_probabilities))
    full = judged(opinion_of(bundle, confidence=EVERYTHING, information=NOTHING), said)
    assert full.contradiction is not None
    room = -said.log_probability / 2
    odd = Limit(certain.mean_log_probability - 1e-6, 1.0)
    evidence = full.contradiction + weight_of(bundle) * full.confidence
    limit = Limit(evidence + room, room)  # ``said`` lies one scale below it
    settings: dict[str, Any] = {
        "confidence": odd,
        "information": NOTHING,
        "evidence": limit,
    }
    alone = judged(opinion_of(bundle, **settings | {"confidence": EVERYTHING}), said)
    assert alone.excess == pytest.approx(-1)
    here = opinion_of(bundle, **settings)
    assert judged(here, said).contradiction is None, "nothing is odd about it"
    assert judged(here, certain).refused
    again = judged(here, said)
    assert again.excess == pytest.approx(1), "two scales stricter, and examined in any case"
    passed = judged(here, doubtful)
    assert passed.contradiction is not None
    assert not passed.refused


@pytest.mark.parametrize(
    ("perturbed", "peer", "now_s", "strict"),
    [
        (True, True, 0.019, True),
        (False, True, 0.0, False),
        (True, False, 0.0, False),
        (True, True, 0.059, True),  # whether or not there is time to answer in its place
    ],
)
def test_a_perturbed_picture_is_examined_by_a_peer_as_after_a_refusal(
    bundle: Bundle, *, perturbed: bool, peer: bool, now_s: float, strict: bool
) -> None:
    clock_s, costs = 0.0, StageCosts({"examine": 32.0, "answer": 32.0})  # and a quarter to spare
    timer = FrameTimer(LatencyBudget(100), costs, lambda: clock_s)
    nothing_is_odd: dict[str, Any] = {
        "confidence": NOTHING,
        "information": NOTHING,
        "evidence": Limit(1e4, 1e3),
    }
    here = opinion_of(bundle, timer, perturbed=perturbed, peer=peer, **nothing_is_odd)
    clock_s = now_s
    opinion = judged(here, said_of(bundle))
    assert (opinion.contradiction is not None) is strict
    if opinion.contradiction is not None:
        evidence = opinion.contradiction + weight_of(bundle) * opinion.confidence
        assert opinion.excess == pytest.approx((evidence - 1e4) / 1e3 + FROM_MEDIAN_TO_LIMIT)


@pytest.mark.parametrize("likely", [float("nan"), float("-inf")])
@pytest.mark.parametrize("examined", [False, True])
def test_a_caption_whose_scores_are_no_numbers_is_refused(
    bundle: Bundle, likely: float, *, examined: bool
) -> None:
    said = replace(said_of(bundle), log_probabilities=(-0.1, likely))
    limit = EVERYTHING if examined else NOTHING
    opinion = judged(opinion_of(bundle, confidence=limit, information=NOTHING), said)
    assert (opinion.refused, opinion.suspicion) == (True, 1.0)


@pytest.mark.parametrize("logit", [np.nan, np.inf])
def test_what_is_said_by_logits_that_are_no_numbers_is_not_given(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, logit: float
) -> None:
    real = TokenRules.__call__

    def ruled(
        rules: TokenRules, scores: NDArray[np.float32], tokens: list[list[int]]
    ) -> NDArray[np.float32]:
        scores[:, 5] = logit  # in place, so that their probabilities have it too
        return real(rules, scores, tokens)

    captioner = OnnxCaptioner(bundle, "cpu")
    encoded = captioner.encode(to_canvas(FRAME.pixels, bundle.manifest.preprocessing))
    monkeypatch.setattr(TokenRules, "__call__", ruled)
    said = captioner.generate(encoded)
    monkeypatch.undo()
    opinion = judged(opinion_of(bundle, confidence=NOTHING, information=NOTHING), said)
    assert opinion.refused
    frame = Result(0, 0.0, None, "held", opinion.suspicion, opinion=opinion).to_json()
    assert json.loads(json.dumps(frame, allow_nan=False))["opinion"] == {}


def test_what_a_peer_has_no_time_to_examine_is_not_let_through(bundle: Bundle) -> None:
    clock_s, costs = 0.0, StageCosts({"examine": 32.0})
    timer = FrameTimer(LatencyBudget(100), costs, lambda: clock_s)
    nothing_is_odd: dict[str, Any] = {"confidence": NOTHING, "information": NOTHING}
    here = opinion_of(bundle, timer, perturbed=True, peer=True, **nothing_is_odd)
    clock_s = 0.061
    assert here.judge(said_of(bundle)) is None
