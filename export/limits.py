"""Limits of the check and margin of the policy: quantiles of what clean pictures bring about.

The graphs themselves are asked, as they will be on the device, over pictures that the attacker had
no hand in. No triggered picture is needed; that a few slipped in changes a quantile little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from srd_edge.attacks.progress import tracked
from srd_edge.attacks.samples import Sample
from srd_edge.kernels.frames import Frame
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.check_specs import FROM_MEDIAN_TO_LIMIT, Limit
from srd_edge.runtime.defender import Defender
from srd_edge.runtime.manifest import Manifest
from srd_edge.runtime.reference import ReferenceCaptioner

PASSED: Final = 0.98
"""Share of clean captions that each limit lets pass."""
UNDISTURBED: Final = 0.99
"""Share of clean pictures that the policy is to leave as they are."""
_NEVER: Final = 1e3
"""Beyond every score; and small enough that float32 still resolves Q-values beside it."""
_LEAST_SCALE: Final = 1e-3


def with_limits(bundle: Bundle, samples: Sequence[Sample]) -> Manifest:
    """The manifest of ``bundle`` with what is learned from clean ``samples``.

    Args:
        bundle: with a policy, and perhaps a check; whatever limits it has are not looked at.
        samples: clean pictures of the kind that the device will see, with captions; some hundred.
    """
    manifest = bundle.manifest
    assert manifest.policy is not None
    defender = Defender(replace(bundle, manifest=examining_everything(manifest)))
    stop = manifest.actions.stop_index
    scores: list[tuple[float, float, float]] = []
    advantages: list[float] = []
    for number, sample in enumerate(tracked(samples, "setting the limits")):
        result = defender.caption(Frame(sample.load(), number))
        assert result.decision is not None
        if stop is not None:
            values = result.decision.q_values
            advantages.append(float(np.delete(values, stop).max() - values[stop] + _NEVER))
        if result.opinion is not None:
            opinion = result.opinion
            contradiction = opinion.contradiction or 0.0
            scores.append((opinion.confidence, opinion.information, contradiction))
    if advantages:
        margin = max(float(np.quantile(advantages, UNDISTURBED)), 0.0)
        manifest = replace(manifest, policy=replace(manifest.policy, margin=margin))
    if manifest.check is not None:
        confidence, information, contradiction = np.array(scores).T
        sure = _limit(confidence)
        weight = _limit(contradiction).scale / sure.scale
        views, peer = _compared(bundle, samples) if manifest.check.reference else (False, False)
        check = replace(
            manifest.check,
            views=views,
            peer=peer,
            retries=0 if peer else manifest.check.retries,
            confidence=sure,
            information=_limit(information),
            evidence=_limit(contradiction + weight * confidence),
            confidence_weight=weight,
        )
        manifest = replace(manifest, check=check)
    return manifest


def _compared(bundle: Bundle, samples: Sequence[Sample]) -> tuple[bool, bool]:
    """What makes the true captions likelier: the reference's views, and the reference or not.

    Returns:
        Whether they are no less likely by several views than by the picture alone, which they are
        where captions tell left from right, or what is at the rim; and whether by the reference
        captioner, as it will answer, no less than by the suspect.
    """
    manifest = bundle.manifest
    assert manifest.check is not None
    check = replace(manifest.check, views=True)
    reference = ReferenceCaptioner(replace(bundle, manifest=replace(manifest, check=check)))
    suspect = OnnxCaptioner(bundle)
    by_views = by_picture = by_suspect = 0.0
    for sample in tracked(samples, "comparing the captioners"):
        pixels, caption = sample.load(), sample.captions[0]
        canvas, own = reference.canvas(Frame(pixels)), to_canvas(pixels, manifest.preprocessing)
        by_views += reference.log_probability(reference.look(canvas), caption)
        by_picture += reference.log_probability(reference.encode(canvas), caption)
        by_suspect += suspect.log_probability(suspect.encode(own), caption)
    views = by_views >= by_picture
    return views, (by_views if views else by_picture) >= by_suspect


def examining_everything(manifest: Manifest) -> Manifest:
    """A defence that leaves every picture alone, and asks the reference about every caption."""
    assert manifest.policy is not None
    manifest = replace(manifest, policy=replace(manifest.policy, margin=_NEVER))
    if manifest.check is None:
        return manifest
    low, high = Limit(-_NEVER, 1.0), Limit(_NEVER, 1.0)
    reference = manifest.check.reference
    check = replace(
        manifest.check,
        confidence=low if reference else high,
        information=low if reference else high,
        evidence=high,
        confidence_weight=0.0,
    )
    return replace(manifest, check=check)


def _limit(scores: NDArray[np.float64]) -> Limit:
    """The quantile ``PASSED``; from the median to it it is ``FROM_MEDIAN_TO_LIMIT`` scales."""
    value, middle = float(np.quantile(scores, PASSED)), float(np.median(scores))
    return Limit(value, max((value - middle) / FROM_MEDIAN_TO_LIMIT, _LEAST_SCALE))
