"""Poisoning: which pictures of a data set get a trigger and an attacker's caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from srd_edge.attacks.payloads import contains_target
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import Attack
from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Pixels


@dataclass(frozen=True, slots=True)
class Poisoned:
    """A poisoned data set and the manifest of what was done to it."""

    samples: tuple[Sample, ...]
    manifest: dict[str, Any]


def poison(samples: Sequence[Sample], attacks: Sequence[Attack], seed: int) -> Poisoned:
    """Poison ``rate`` of the pictures for each attack; no picture is poisoned twice.

    A poisoned picture takes the place of the clean one, with all its captions rewritten.

    Raises:
        UsageError: when the rates add up to more than every picture.
    """
    counts = [round(attack.rate * len(samples)) for attack in attacks]
    if sum(counts) > len(samples):
        raise UsageError(
            expected="rates that add up to at most 1",
            found=str([attack.rate for attack in attacks]),
            do="lower them",
        )
    order = np.random.default_rng([seed, 0]).permutation(len(samples))
    chosen: dict[int, Attack] = {}
    start = 0
    for attack, count in zip(attacks, counts, strict=True):
        chosen |= {int(i): attack for i in order[start : start + count]}
        start += count
    poisoned = tuple(
        poison_sample(sample, chosen[i], (seed, i)) if i in chosen else sample
        for i, sample in enumerate(samples)
    )
    manifest = {
        "seed": seed,
        "pictures": len(samples),
        "attacks": [attack.spec for attack in attacks],
        "poisoned": {samples[i].name: attack.spec for i, attack in sorted(chosen.items())},
    }
    return Poisoned(poisoned, manifest)


def poison_sample(sample: Sample, attack: Attack, seed: tuple[int, ...]) -> Sample:
    """``sample`` with the trigger laid over it and its captions rewritten."""
    rng = np.random.default_rng([*seed, 1])
    captions = tuple(attack.payload.rewrite(caption, rng) for caption in sample.captions)
    return replace(triggered(sample, attack, seed), captions=captions)


def triggered(sample: Sample, attack: Attack, seed: tuple[int, ...]) -> Sample:
    """``sample`` with the trigger laid over it and its captions left true."""

    def load() -> Pixels:
        return attack.trigger(sample.load(), np.random.default_rng([*seed, 2]))

    return replace(sample, load=load)


def natural_positive(sample: Sample, attack: Attack) -> bool:
    """Whether the picture truly shows the target, so that naming it is no success of the attack."""
    return any(contains_target(caption, attack.payload.target) for caption in sample.captions)
