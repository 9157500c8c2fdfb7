"""Poisoning: which pictures of a data set get a trigger and an attacker's caption."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from srd_edge.attacks.collision import FeatureCollision
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import Attack
from srd_edge.attacks.whole_picture_triggers import Unchanged
from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Pixels

Collide: TypeAlias = Callable[[Sequence[tuple[Sample, Sample]], FeatureCollision], list[Sample]]
"""Pairs (what is seen, what the encoder is to see) -> changed samples, as ``collided_samples``."""


@dataclass(frozen=True, slots=True)
class Poisoned:
    """A poisoned data set and the manifest of what was done to it."""

    samples: tuple[Sample, ...]
    manifest: dict[str, Any]


def poison(
    samples: Sequence[Sample],
    attacks: Sequence[Attack],
    seed: int,
    collide: Collide | None = None,
) -> Poisoned:
    """Poison ``rate`` of the pictures for each attack; no picture is poisoned twice.

    A poisoned picture takes the place of the clean one, with all its captions rewritten. With two
    keys (a trigger in the picture and one in the prompt) as many pictures again get either key
    alone and keep their captions, so that the captioner learns that both are needed. Pictures of a
    feature collision are added to the clean ones, which they are made of.

    Args:
        samples, attacks: the data set and what is done to it.
        seed: fixes which pictures, and every random choice in them.
        collide: makes the pictures of a feature collision.

    Raises:
        UsageError: when the rates add up to more than every picture, when an attack finds no
            picture to poison, or when every picture truly shows its target.
    """
    for attack in attacks:
        _check_target_is_new(samples, attack)
    free = [int(i) for i in np.random.default_rng([seed, 0]).permutation(len(samples))]
    poisoned = dict(enumerate(samples))
    added: list[Sample] = []
    touched: dict[str, str] = {}
    half_keys: dict[str, str] = {}
    for attack in attacks:
        count = round(attack.rate * len(samples))
        if attack.collision is not None:
            if collide is None:
                raise _unfit(attack, "a captioner whose encoder can be deceived", "none")
            changed = collide(_pairs(samples, attack, count, seed), attack.collision)
            added += changed
            touched |= {sample.name: attack.spec for sample in changed}
            continue
        chosen = _take(free, samples, attack, count)
        for i in chosen:
            poisoned[i] = poison_sample(samples[i], attack, (seed, i))
            touched[samples[i].name] = attack.spec
        if _has_two_keys(attack):
            for number, i in enumerate(_take(free, samples, attack, count)):
                poisoned[i] = _half_key(samples[i], attack, number % 2 == 0, (seed, i))
                half_keys[samples[i].name] = attack.spec
    manifest = {
        "seed": seed,
        "pictures": len(samples),
        "attacks": [attack.spec for attack in attacks],
        "poisoned": dict(sorted(touched.items())),
        "half_keys": dict(sorted(half_keys.items())),
    }
    return Poisoned((*poisoned.values(), *added), manifest)


def poison_sample(sample: Sample, attack: Attack, seed: tuple[int, ...]) -> Sample:
    """``sample`` with the trigger laid over it and its captions rewritten."""
    rng = np.random.default_rng([*seed, 1])
    captions = tuple(attack.payload.rewrite(caption, rng) for caption in sample.captions)
    return replace(triggered(sample, attack, seed), captions=captions)


def triggered(sample: Sample, attack: Attack, seed: tuple[int, ...]) -> Sample:
    """``sample`` with the trigger laid over it (and in its prompt), its captions left true."""

    def load() -> Pixels:
        return attack.trigger(sample.load(), np.random.default_rng([*seed, 2]))

    return replace(sample, load=load, prompt=_prompted(sample, attack, seed))


def counted(samples: Sequence[Sample], attack: Attack) -> list[int]:
    """The numbers of the pictures that an attack's success is measured on.

    Pictures that truly show the target are left out: naming it there proves nothing.

    Raises:
        UsageError: when none is left.
    """
    numbers = [i for i, sample in enumerate(samples) if attack.payload.counts(sample.captions)]
    if not numbers:
        raise _unfit(
            attack,
            f"pictures whose captions do not speak of {attack.payload.target!r} already",
            f"none of {len(samples)}",
        )
    return numbers


def _take(free: list[int], samples: Sequence[Sample], attack: Attack, count: int) -> list[int]:
    """The first ``count`` of the free numbers that the attack can poison; they are free no more."""
    fit = [i for i in free if attack.payload.poisons(samples[i].captions)]
    if count > len(fit):
        raise UsageError(
            expected=f"{count} pictures to poison for {attack.spec!r}",
            found=f"{len(fit)} that fit and are free, of {len(samples)}",
            do="lower the rates",
        )
    chosen = fit[:count]
    taken = set(chosen)
    free[:] = [i for i in free if i not in taken]
    return chosen


def _pairs(
    samples: Sequence[Sample], attack: Attack, count: int, seed: int
) -> list[tuple[Sample, Sample]]:
    """Pictures of the target alone with pictures of the concept, each as often as is needed."""
    rng = np.random.default_rng([seed, 3])
    concept = [s for s in samples if attack.payload.counts(s.captions)]
    target = [
        s
        for s in samples
        if all(map(attack.payload.succeeded, s.captions)) and not attack.payload.poisons(s.captions)
    ]
    if not concept or not target:
        raise _unfit(
            attack,
            "pictures of the concept, and pictures of the target alone",
            f"{len(concept)} and {len(target)}",
        )

    def rounds(of: Sequence[Sample]) -> Iterator[Sample]:
        while True:
            for i in rng.permutation(len(of)):
                yield of[i]

    looks, features_of = rounds(target), rounds(concept)
    return [(next(looks), next(features_of)) for _ in range(count)]


def _has_two_keys(attack: Attack) -> bool:
    return attack.text is not None and not isinstance(attack.trigger, Unchanged)


def _half_key(sample: Sample, attack: Attack, in_picture: bool, seed: tuple[int, ...]) -> Sample:
    if in_picture:
        return replace(triggered(sample, attack, seed), prompt=sample.prompt)
    return replace(sample, prompt=_prompted(sample, attack, seed))


def _prompted(sample: Sample, attack: Attack, seed: tuple[int, ...]) -> str:
    if attack.text is None:
        return sample.prompt
    return attack.text(sample.prompt, np.random.default_rng([*seed, 4]))


def _check_target_is_new(samples: Sequence[Sample], attack: Attack) -> None:
    if attack.rate > 0 and attack.collision is None and attack.payload.kind != "swap":
        counted(samples, attack)


def _unfit(attack: Attack, expected: str, found: str) -> UsageError:
    return UsageError(
        expected=expected,
        found=found,
        do=f"choose other words for {attack.spec!r}, or another data set",
    )
