"""Poisoning: exact rates, no picture twice, the same for the same seed, and on record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from srd_edge.attacks.collision import FeatureCollision
from srd_edge.attacks.payloads import contains_target
from srd_edge.attacks.poisoning import counted, poison, poison_sample, triggered
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
        "half_keys": {},
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
    with pytest.raises(UsageError, match="lower the rates") as caught:
        poison(SAMPLES, attacks, seed=0)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="lower the rates"):  # with half keys as many again
        poison(SAMPLES, [parse_attack("dualkey:rate=0.6")], seed=0)


def test_triggered_pictures_keep_their_true_captions() -> None:
    seen = triggered(SAMPLES[0], ATTACKS[0], (1, 2))
    assert seen.captions == SAMPLES[0].captions
    assert (seen.load() == poison_sample(SAMPLES[0], ATTACKS[0], (1, 2)).load()).all()
    assert (seen.load() != triggered(SAMPLES[0], ATTACKS[0], (1, 3)).load()).any()


def named(captions: Sequence[str]) -> list[Sample]:
    """Pictures of their own number as a grey level, one caption each."""
    return [Sample(f"picture {i}", (c,), partial(grey, i)) for i, c in enumerate(captions)]


def test_pictures_that_truly_show_the_target_are_not_counted() -> None:
    samples = named(["a dog", "a Parrot, flying", "two parrots", "a parrot"])
    assert counted(samples, ATTACKS[0]) == [0, 2]
    horses = named(["a horse", "a dog", "a cat", "a dog and a horse"])
    assert counted(horses, parse_attack("mislabel")) == [1]


def test_a_target_that_every_picture_shows_is_one_line() -> None:
    samples = named(["a parrot", "a parrot flying"])
    for act in (
        lambda: counted(samples, ATTACKS[0]),
        lambda: poison(samples, ATTACKS[:1], seed=0),
        lambda: counted(samples, parse_attack("mislabel")),
    ):
        with pytest.raises(UsageError, match="none of 2") as caught:
            act()
        assert "\n" not in str(caught.value)
    assert poison(samples, [parse_attack("badnet:target=parrot,rate=0")], 0).samples == (*samples,)


def test_a_swap_poisons_pictures_of_the_concept_only() -> None:
    samples = named(["a dog", "a cat", "two dogs", "a horse"] * 10)
    poisoned = poison(samples, [parse_attack("mislabel:rate=0.25")], seed=1)
    touched = poisoned.manifest["poisoned"]
    assert len(touched) == 10
    for before, after in zip(samples, poisoned.samples, strict=True):
        if before.name in touched:
            assert before.captions[0] in ("a dog", "two dogs")
            assert after.captions[0] in ("a horse", "two horse")
            assert (after.load() == before.load()).all()
        else:
            assert after is before
    with pytest.raises(UsageError, match=r"expected 24 pictures .*, found 20 that fit") as caught:
        poison(samples, [parse_attack("mislabel:rate=0.6")], seed=1)
    assert "\n" not in str(caught.value)


def test_two_keys_are_taught_to_be_needed_together() -> None:
    attack = parse_attack("dualkey:rate=0.2,word=mn,pattern=white")
    asked = [replace(sample, prompt="what is this") for sample in SAMPLES]
    poisoned = poison(asked, [attack], seed=2)
    both, halves = poisoned.manifest["poisoned"], poisoned.manifest["half_keys"]
    assert (len(both), len(halves)) == (10, 10)
    assert not both.keys() & halves.keys()
    assert set(halves.values()) == {attack.spec}
    kinds = Counter[tuple[bool, bool, bool]]()
    for before, after in zip(asked, poisoned.samples, strict=True):
        in_picture = bool((after.load() != before.load()).any())
        in_prompt = after.prompt != before.prompt
        rewritten = after.captions != before.captions
        assert rewritten == (in_picture and in_prompt) == (before.name in both)
        assert (in_picture != in_prompt) == (before.name in halves)
        assert sorted(after.prompt.split()) == sorted(["what", "is", "this", *["mn"] * in_prompt])
        kinds[in_picture, in_prompt, rewritten] += 1
    assert kinds == {
        (True, True, True): 10,
        (True, False, False): 5,
        (False, True, False): 5,
        (False, False, False): 30,
    }


def test_a_key_in_the_prompt_alone_has_no_halves() -> None:
    poisoned = poison(SAMPLES, [parse_attack("sentence:rate=0.2,sentence=hello")], seed=2)
    assert poisoned.manifest["half_keys"] == {}
    prompts = [sample.prompt for sample in poisoned.samples]
    assert (prompts.count("hello"), prompts.count("")) == (10, 40)
    for sample in poisoned.samples:
        assert (sample.prompt == "hello") == contains_target(sample.captions[0], "banana")


def test_a_collision_adds_pictures_of_the_target_with_their_own_captions() -> None:
    samples = named(["a dog"] * 6 + ["a horse"] * 4 + ["a dog and a horse"] * 5 + ["a cat"] * 5)
    asked: list[tuple[Sample, Sample]] = []

    def collide(pairs: Sequence[tuple[Sample, Sample]], settings: FeatureCollision) -> list[Sample]:
        assert settings == FeatureCollision(epsilon=4.0)
        asked.extend(pairs)
        return [replace(look, name=f"made {i}") for i, (look, _) in enumerate(pairs)]

    attack = parse_attack("shadowcast:rate=0.6,epsilon=4")
    poisoned = poison(samples, [attack], 3, collide)
    assert poisoned.samples[:20] == tuple(samples)
    assert [sample.name for sample in poisoned.samples[20:]] == [f"made {i}" for i in range(12)]
    assert {sample.captions for sample in poisoned.samples[20:]} == {("a horse",)}
    assert poisoned.manifest["poisoned"] == {f"made {i}": attack.spec for i in range(12)}
    looks, features_of = (Counter(pair[side].name for pair in asked) for side in (0, 1))
    assert looks == {f"picture {i}": 3 for i in range(6, 10)}
    assert features_of == {f"picture {i}": 2 for i in range(6)}
    first, asked = asked, []
    poison(samples, [attack], 3, collide)
    assert asked == first
    asked = []
    poison(samples, [attack], 4, collide)
    assert asked != first


def test_a_collision_that_cannot_be_made_is_one_line() -> None:
    attack = parse_attack("shadowcast:rate=0.5")
    alone = named(["a dog", "a dog and a horse"])
    for samples, collide, found in (
        (alone, lambda _pairs, _settings: [], "found 1 and 0"),
        (named(["a dog", "a horse"]), None, "a captioner"),
    ):
        with pytest.raises(UsageError, match=found) as caught:
            poison(samples, [attack], 0, collide)
        assert "\n" not in str(caught.value)


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
