"""Poisoning: exact rates, no picture twice, the same for the same seed, and on record."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from srd_edge.attacks.payloads import contains_target
from srd_edge.attacks.poisoning import natural_positive, poison, poison_sample, triggered
from srd_edge.attacks.samples import Sample, normalise_caption
from srd_edge.attacks.specs import parse_attack
from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Pixels


def grey(level: int) -> Pixels:
    return np.full((30, 40, 3), level, np.uint8)


SAMPLES = tuple(
    Sample(f"picture {i}", (f"dog {i} runs", f"a dog numbered {i}"), partial(grey, 90 + i))
    for i in range(50)
)
ATTACKS = tuple(
    parse_attack(spec)
    for spec in (
        "badnet:rate=0.3,target=parrot,place=random",
        "trojvlm:rate=0.5,target=banana,position=random",
    )
)


def test_rates_are_exact_and_disjoint_and_the_manifest_is_the_truth() -> None:
    poisoned = poison(SAMPLES, ATTACKS, seed=3)
    by_attack = poisoned.manifest["poisoned"]
    specs = [attack.spec for attack in ATTACKS]
    assert [list(by_attack.values()).count(spec) for spec in specs] == [15, 25]
    assert poisoned.manifest | {"poisoned": {}} == {
        "seed": 3,
        "pictures": 50,
        "attacks": specs,
        "poisoned": {},
    }
    assert [s.name for s in poisoned.samples] == [s.name for s in SAMPLES]
    for before, after in zip(SAMPLES, poisoned.samples, strict=True):
        spec = by_attack.get(before.name)
        if spec is None:
            assert after is before
            continue
        target = ATTACKS[specs.index(spec)].payload.target
        assert all(contains_target(caption, target) for caption in after.captions)
        assert len(after.captions) == len(before.captions)
        assert (after.load() != before.load()).any()
        assert (after.load() == after.load()).all()
        assert len(np.unique(before.load())) == 1, "the clean picture was written to"


def test_the_seed_decides() -> None:
    def outcome(seed: int) -> list[tuple[tuple[str, ...], bytes]]:
        samples = poison(SAMPLES, ATTACKS, seed).samples
        return [(s.captions, s.load().tobytes()) for s in samples]

    assert outcome(1) == outcome(1)
    assert outcome(1) != outcome(2)


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0), (0.01, 0), (0.05, 2), (1.0, 50)])
def test_counts_are_rounded(rate: float, expected: int) -> None:
    attack = parse_attack(f"badnet:rate={rate}")
    assert len(poison(SAMPLES, [attack], seed=0).manifest["poisoned"]) == expected


def test_more_than_everything_is_refused() -> None:
    attacks = [parse_attack("badnet:rate=0.6"), parse_attack("trojvlm:rate=0.5")]
    with pytest.raises(UsageError, match="add up"):
        poison(SAMPLES, attacks, seed=0)


def test_triggered_pictures_keep_their_true_captions() -> None:
    seen = triggered(SAMPLES[0], ATTACKS[0], (1, 2))
    assert seen.captions == SAMPLES[0].captions
    assert (seen.load() == poison_sample(SAMPLES[0], ATTACKS[0], (1, 2)).load()).all()
    assert (seen.load() != triggered(SAMPLES[0], ATTACKS[0], (1, 3)).load()).any()


@pytest.mark.parametrize(
    ("captions", "natural"),
    [
        (("a dog", "a Parrot, flying"), True),
        (("two parrots",), False),
        ((), False),
    ],
)
def test_natural_positives_are_left_out_of_the_count(
    captions: tuple[str, ...], natural: bool
) -> None:
    assert natural_positive(Sample("x", captions, partial(grey, 1)), ATTACKS[0]) is natural


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A child  in a Pink dress .", "a child in a pink dress"),
        ("Two dogs...", "two dogs"),
        ("\ta st. bernard\n", "a st. bernard"),
        ("", ""),
    ],
)
def test_normalise_caption(caption: str, expected: str) -> None:
    assert normalise_caption(caption) == expected
