"""The halves of the defence as contestants: the policy alone, the check alone, the reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from srd_edge.evaluation.contestants import Answer, Case
from srd_edge.evaluation.controls import DefenderContestant, NeverActs
from srd_edge.evaluation.registry import ENTRIES
from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.runtime import pipeline as pipeline_module
from srd_edge.runtime import reference as reference_module
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.check_specs import Limit
from srd_edge.runtime.decoders import Encoded
from srd_edge.runtime.defender import Defender
from srd_edge.runtime.policy import suspicion
from srd_edge.runtime.records import Observation
from srd_edge.runtime.reference import ReferenceCaptioner
from srd_edge.training.datasets import open_dataset

EVERYTHING, NOTHING = Limit(-1e4, 1.0), Limit(1e4, 1.0)  # is above it


@pytest.fixture
def bundle(checked_bundle: Path) -> Bundle:
    """Its policy acts freely, and some captions are refused."""
    bundle = read_bundle(checked_bundle)
    assert bundle.manifest.policy is not None
    policy = replace(bundle.manifest.policy, margin=0.0)
    bundle = replace(bundle, manifest=replace(bundle.manifest, policy=policy))
    evidence = {"evidence": Limit(20.0, 5.0), "confidence_weight": 0.0}
    return checked(bundle, confidence=EVERYTHING, **evidence, views=True, retries=2)


@pytest.fixture
def cases() -> list[Case]:
    pictures = [sample.load() for sample in open_dataset("scenes", "test", 12)]
    return [Case(Frame(p, i), np.zeros(p.shape[:2], np.bool_)) for i, p in enumerate(pictures)]


def checked(bundle: Bundle, **changes: Any) -> Bundle:
    assert bundle.manifest.check is not None
    check = replace(bundle.manifest.check, **changes)
    return replace(bundle, manifest=replace(bundle.manifest, check=check))


def answers(name: str, bundle: Bundle, cases: list[Case]) -> list[Answer]:
    setting: Any = type("OfBundle", (), {"bundle": bundle})()
    return ENTRIES[name].build(setting).answer(cases, 0)


def test_the_policy_alone_is_the_bundles_without_its_check(
    bundle: Bundle, cases: list[Case]
) -> None:
    unchecked = replace(bundle, manifest=replace(bundle.manifest, check=None))
    alone = answers("policy_alone", bundle, cases)
    assert alone == answers("policy", unchecked, cases)
    assert alone != answers("policy", bundle, cases)
    assert any(answer.boxes for answer in alone)


def test_the_check_alone_never_perturbs_and_replaces_what_it_refuses(
    bundle: Bundle, cases: list[Case]
) -> None:
    raw, trusted = (answers(name, bundle, cases) for name in ("none", "reference"))
    alone = answers("check_alone", bundle, cases)
    for answer, undefended, reference in zip(alone, raw, trusted, strict=True):
        assert answer.boxes == ()
        assert answer.caption == (reference if answer.alarm else undefended).caption
        assert answer.suspicion is not None
        assert (answer.suspicion > 0.5) is answer.alarm
        assert answer.captioner_passes == (6 if answer.alarm else 2)
        assert answer.policy_passes == 1
    assert {answer.alarm for answer in alone} == {True, False}
    fine = checked(bundle, confidence=NOTHING, information=NOTHING)
    assert [a.caption for a in answers("check_alone", fine, cases)] == [a.caption for a in raw]


def test_the_reference_captions_every_picture(bundle: Bundle, cases: list[Case]) -> None:
    own = ReferenceCaptioner(bundle, "cpu")
    found = answers("reference", bundle, cases)
    expected = [own.answer(own.canvas(case.frame)).text for case in cases]
    assert [answer.caption for answer in found] == expected
    told = {(answer.alarm, answer.suspicion, answer.captioner_passes) for answer in found}
    assert told == {(None, None, 4)}
    assert found != answers("none", bundle, cases)


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"evidence": EVERYTHING},
        {"evidence": EVERYTHING, "views": False},
        {"confidence": NOTHING},
    ],
)
def test_passes_are_those_that_were_made(
    bundle: Bundle, cases: list[Case], monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any]
) -> None:
    seen: list[Pixels] = []

    class Seen(OnnxCaptioner):
        def encode(self, canvas: Pixels) -> Encoded:
            seen.append(canvas)
            return super().encode(canvas)

        def encode_views(self, canvases: Pixels) -> Encoded:
            seen.extend(canvases)
            return super().encode_views(canvases)

    modules: tuple[ModuleType, ...] = (pipeline_module, reference_module)
    for module in modules:
        monkeypatch.setattr(module, "OnnxCaptioner", Seen)
    contestant = DefenderContestant(Defender(checked(bundle, **limits)))
    for case in cases:
        seen.clear()
        (answer,) = contestant.answer([case], 0)
        assert answer.captioner_passes == len(seen)


def test_what_never_acts_stops_at_once() -> None:
    nothing = Observation(np.zeros((4, 16), np.float32), np.zeros((5, 5), np.float32))
    values = NeverActs(7, 9).q_values(nothing)
    assert (values.shape, int(values.argmax())) == ((9,), 7)
    assert values.dtype == np.float32
    assert suspicion(values, 7, 0.5) < 0.5
