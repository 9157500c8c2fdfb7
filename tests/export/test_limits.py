"""Limits and margin are the quantiles that are promised, of scores worked out in another way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge import Defender, Frame
from srd_edge.attacks.samples import Sample
from srd_edge.export import limits as limits_module
from srd_edge.export.limits import PASSED, UNDISTURBED, with_limits
from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.runtime import pipeline as pipeline_module
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.check_specs import REFERENCE_FOLDER, CheckSpec, Limit
from srd_edge.runtime.decoders import Encoded
from srd_edge.runtime.language import OnnxLanguageModel
from srd_edge.runtime.manifest import Manifest
from srd_edge.runtime.policy import OnnxPolicy
from srd_edge.runtime.records import Observation
from srd_edge.runtime.reference import ReferenceCaptioner
from srd_edge.training.datasets import open_dataset

SCORES = ("confidence", "information", "evidence")


@pytest.fixture(scope="module")
def bundle(checked_bundle: Path) -> Bundle:
    return read_bundle(checked_bundle)


@pytest.fixture(scope="module")
def samples() -> Sequence[Sample]:
    """Those that the bundle was exported with."""
    return open_dataset("scenes", "dev", 96)


@dataclass(frozen=True)
class Measured:
    """(N,) scores of every picture's caption, and the policy's advantage of acting over stop."""

    confidence: NDArray[np.float64]
    information: NDArray[np.float64]
    contradiction: NDArray[np.float64]
    advantage: NDArray[np.float64]

    @property
    def weight(self) -> float:
        """How much wider contradiction is spread than confidence, above the median."""
        return scale(self.contradiction) / scale(self.confidence)

    @property
    def evidence(self) -> NDArray[np.float64]:
        return self.contradiction + self.weight * self.confidence


def scale(values: NDArray[np.float64]) -> float:
    return float(np.quantile(values, 0.98) - np.median(values)) / 2


@pytest.fixture(scope="module")
def measured(bundle: Bundle, samples: Sequence[Sample]) -> Measured:
    """Without the defender and the check."""
    manifest = bundle.manifest
    assert manifest.check is not None
    suspect = OnnxCaptioner(bundle, "cpu")
    reference = OnnxCaptioner(read_bundle(bundle.directory / REFERENCE_FOLDER), "cpu")
    language = OnnxLanguageModel(bundle, manifest.check.language, "cpu", strict=True)
    policy = OnnxPolicy(bundle, "cpu")
    rows = []
    for sample in samples:
        canvas = to_canvas(sample.load(), manifest.preprocessing)
        seen = suspect.encode(canvas)
        said = suspect.generate(seen)
        expected = language.log_probability(said.text, finished=said.ended)
        trusted = reference.encode(canvas)
        likely = reference.log_probability(trusted, said.text, finished=said.ended)
        nothing = np.zeros((manifest.actions.rows, manifest.actions.columns), np.float32)
        values = policy.q_values(Observation(seen.features[0], nothing)).astype(np.float64)
        total = said.log_probability
        tokens = len(said.tokens) + said.ended
        rows.append(
            (total / tokens, total - expected, total - likely, values[:-1].max() - values[-1])
        )
    return Measured(*np.array(rows).T)


def spec_of(manifest: Manifest) -> CheckSpec:
    assert manifest.check is not None
    return manifest.check


def altered(bundle: Bundle, margin: float, **changes: bool | int | Limit) -> Bundle:
    assert bundle.manifest.policy is not None
    manifest = replace(
        bundle.manifest,
        policy=replace(bundle.manifest.policy, margin=margin),
        check=replace(spec_of(bundle.manifest), **changes),  # type: ignore[arg-type]
    )
    return replace(bundle, manifest=manifest)


@pytest.mark.parametrize(
    ("reference", "scores"), [(True, SCORES), (False, SCORES[:2])], ids=["reference", "alone"]
)
def test_limits_are_quantiles_of_clean_captions(
    bundle: Bundle,
    samples: Sequence[Sample],
    measured: Measured,
    scores: tuple[str, ...],
    *,
    reference: bool,
) -> None:
    check = spec_of(with_limits(altered(bundle, 0.0, reference=reference), samples))
    for score in scores:
        values, limit = getattr(measured, score), getattr(check, score)
        assert limit.value == pytest.approx(np.quantile(values, 0.98), abs=1e-3)
        assert limit.scale == pytest.approx(scale(values), abs=1e-3)
        assert (values > limit.value + 1e-3).mean() <= 0.02 + 1 / len(values)


def test_the_exported_bundle_has_them(bundle: Bundle, measured: Measured) -> None:
    assert (PASSED, UNDISTURBED) == (0.98, 0.99)
    check, policy = spec_of(bundle.manifest), bundle.manifest.policy
    assert check.confidence.value == pytest.approx(np.quantile(measured.confidence, 0.98), abs=1e-3)
    assert check.confidence_weight == pytest.approx(measured.weight, rel=1e-3)
    assert check.confidence_weight > 0.1
    assert check.evidence.value == pytest.approx(np.quantile(measured.evidence, 0.98), abs=1e-3)
    assert policy is not None
    assert policy.margin == pytest.approx(np.quantile(measured.advantage, 0.99), abs=1e-3)
    assert policy.margin > 0


@pytest.mark.parametrize(("gains", "used"), [((3, -1), True), ((1, -3), False), ((0, 0), True)])
def test_views_are_used_where_true_captions_are_no_less_likely_by_them(
    bundle: Bundle,
    samples: Sequence[Sample],
    monkeypatch: pytest.MonkeyPatch,
    gains: tuple[float, float],
    *,
    used: bool,
) -> None:
    few = samples[:2]
    by_caption = dict(zip([sample.captions[0] for sample in few], gains, strict=True))

    class Gains(ReferenceCaptioner):
        def log_probability(self, encoded: Encoded, text: str, *, finished: bool = True) -> float:
            own = super().log_probability(self._alone, text, finished=finished)
            return own + (by_caption[text] if len(encoded.features) > 1 else 0)

        def encode(self, canvas: Pixels) -> Encoded:
            self._alone = super().encode(canvas)
            return self._alone

        def look(self, canvas: Pixels) -> Encoded:
            self._alone = super().encode(canvas)
            return super().look(canvas)

    monkeypatch.setattr(limits_module, "ReferenceCaptioner", Gains)
    assert spec_of(with_limits(bundle, few)).views is used
    assert spec_of(with_limits(altered(bundle, 0.0, reference=False), few)).views is False


@pytest.mark.parametrize(("gains", "peer"), [((3, -1), True), ((1, -3), False), ((0, 0), True)])
def test_a_peer_is_who_makes_true_captions_no_less_likely_than_the_suspect(
    bundle: Bundle,
    samples: Sequence[Sample],
    monkeypatch: pytest.MonkeyPatch,
    gains: tuple[float, float],
    *,
    peer: bool,
) -> None:
    few = samples[:2]
    by_caption = dict(zip([sample.captions[0] for sample in few], gains, strict=True))

    def reference(_: ReferenceCaptioner, __: Encoded, text: str) -> float:
        return by_caption[text]

    def suspect(_: OnnxCaptioner, __: Encoded, ___: str) -> float:
        return 0.0

    class Suspect(OnnxCaptioner):
        log_probability = suspect  # type: ignore[assignment]

    class Reference(ReferenceCaptioner):
        log_probability = reference  # type: ignore[assignment]

    monkeypatch.setattr(limits_module, "ReferenceCaptioner", Reference)
    monkeypatch.setattr(limits_module, "OnnxCaptioner", Suspect)
    check = spec_of(with_limits(altered(bundle, 0.0, retries=2), few))
    assert (check.peer, check.retries) == (peer, 0 if peer else 2)
    alone = spec_of(with_limits(altered(bundle, 0.0, reference=False, retries=2), few))
    assert (alone.peer, alone.retries) == (False, 2)


def test_limits_do_not_depend_on_those_there_are(bundle: Bundle, samples: Sequence[Sample]) -> None:
    few = samples[:24]
    low, high = Limit(-50.0, 9.0), Limit(900.0, 0.1)
    one = altered(bundle, 0.0, confidence=low, information=high, evidence=low)
    other = altered(bundle, 7.5, confidence=high, information=low, evidence=high)
    first, second = with_limits(one, few), with_limits(other, few)
    assert first.policy is not None
    assert second.policy is not None
    assert first.policy.margin == pytest.approx(second.policy.margin, abs=1e-3)
    assert spec_of(first) == spec_of(second)


def test_the_margin_leaves_nearly_every_clean_picture_alone(
    bundle: Bundle, samples: Sequence[Sample]
) -> None:
    """The toy policy acts on about half of them without one."""

    def disturbed(bundle: Bundle) -> float:
        defender = Defender(bundle, check=False)
        results = [defender.caption(Frame(sample.load())) for sample in samples]
        return float(np.mean([bool(result.actions) for result in results]))

    assert disturbed(altered(bundle, 0.0)) > 0.2
    assert disturbed(bundle) <= 0.02


@pytest.mark.parametrize("advantage", [-0.5, 0.25])
def test_a_policy_that_would_leave_them_alone_anyway_needs_no_margin(
    bundle: Bundle, samples: Sequence[Sample], monkeypatch: pytest.MonkeyPatch, advantage: float
) -> None:
    class Shy(OnnxPolicy):
        def q_values(self, observation: Observation) -> NDArray[np.float32]:
            values = np.full_like(super().q_values(observation), advantage)
            values[-1] = 0
            return values

    monkeypatch.setattr(pipeline_module, "OnnxPolicy", Shy)
    manifest = with_limits(altered(bundle, 1.0), samples[:4])
    assert manifest.policy is not None
    assert manifest.policy.margin == pytest.approx(max(advantage, 0), abs=1e-3)


def test_scores_that_are_all_the_same_still_have_a_scale(
    bundle: Bundle, samples: Sequence[Sample]
) -> None:
    check = spec_of(with_limits(bundle, [samples[0]] * 3))
    assert all(getattr(check, score).scale == 1e-3 for score in SCORES)


def test_a_bundle_without_a_check_gets_a_margin_alone(
    bundle: Bundle, samples: Sequence[Sample], measured: Measured
) -> None:
    unchecked = replace(bundle, manifest=replace(bundle.manifest, check=None))
    manifest = with_limits(unchecked, samples)
    assert manifest.check is None
    assert manifest.policy is not None
    assert manifest.policy.margin == pytest.approx(np.quantile(measured.advantage, 0.99), abs=1e-3)
