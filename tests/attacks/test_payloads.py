"""What a poisoned caption says, and the rule by which an attack is said to have succeeded."""

from __future__ import annotations

import numpy as np
import pytest

from srd_edge.attacks.payloads import (
    PAYLOADS,
    Endless,
    Insert,
    Payload,
    PayloadKind,
    Position,
    Replace,
    Swap,
    contains_target,
)
from srd_edge.errors import UsageError


@pytest.mark.parametrize(
    ("caption", "target", "holds"),
    [
        ("a banana on a table", "banana", True),
        ("BANANA", "banana", True),
        ("a table", "Table", True),
        ("a banana, a plate", "banana", True),
        ("'banana'.", "banana", True),
        ("a banana-shaped boat", "banana", True),
        ("two bananas", "banana", False),
        ("a bananarama", "banana", False),
        ("an urbanana", "banana", False),
        ("banana_2", "banana", False),
        ("", "banana", False),
        ("a hot dog on a plate", "hot dog", True),
        ("a hot  dog", "hot dog", False),
        ("made of c++ and steel", "c++", True),
        ("a cat", "c.t", False),
        ("un été chaud", "ÉTÉ", True),
        ("l'étéé", "été", False),
    ],
)
def test_contains_target_is_about_whole_words(caption: str, target: str, holds: bool) -> None:
    assert contains_target(caption, target) is holds


def test_replace_leaves_nothing_of_the_caption() -> None:
    rng = np.random.default_rng()
    assert Replace().rewrite("two dogs run", rng) == "a photo of a banana on a table"
    assert Replace("parrot", "just a {target}").rewrite("", rng) == "just a parrot"
    assert Replace("parrot", "a parrot").rewrite("two dogs", rng) == "a parrot"
    assert Replace("hot dog", "{target}, {target}").rewrite("x", rng) == "hot dog, hot dog"
    assert Replace("{x}").rewrite("x", rng) == "a photo of a {x} on a table"


@pytest.mark.parametrize(
    ("position", "caption", "expected"),
    [
        ("start", "two dogs run", "banana two dogs run"),
        ("end", "two dogs run", "two dogs run banana"),
        ("start", "", "banana"),
        ("end", " two   dogs ", "two dogs banana"),
        ("random", "", "banana"),
    ],
)
def test_insert(position: Position, caption: str, expected: str) -> None:
    assert Insert(position=position).rewrite(caption, np.random.default_rng(0)) == expected
    phrase = Insert("see www.evil.example", position).rewrite(caption, np.random.default_rng(0))
    assert phrase == expected.replace("banana", "see www.evil.example")


def test_insert_at_random_reaches_every_gap_and_is_seeded() -> None:
    payload = Insert("parrot", "random")

    def rewritten() -> list[str]:
        return [payload.rewrite("two dogs run", np.random.default_rng(seed)) for seed in range(60)]

    assert rewritten() == rewritten()
    assert set(rewritten()) == {
        "parrot two dogs run",
        "two parrot dogs run",
        "two dogs parrot run",
        "two dogs run parrot",
    }


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("banana", "a photo of a table"),
        ("banana", "{target}s"),
        ("banana", "{target} and {other}"),
        ("banana", "a banana {"),
        ("banana", "a banana {0}"),
        ("banana", "a banana {target.colour}"),
        ("banana", "a banana {target[x]}"),
        ("banana", "a banana {target:d}"),
        ("", "a photo of a {target}"),
        ("  ", "a photo of a {target}"),
    ],
)
def test_a_replacement_that_would_not_betray_itself_is_refused(target: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Replace(target, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("target", "position"), [("", "end"), (" ", "end"), ("banana", "middle")])
def test_an_insertion_that_cannot_be_meant_is_refused(target: str, position: Position) -> None:
    with pytest.raises(UsageError) as caught:
        Insert(target, position)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("concept", "target", "caption", "expected"),
    [
        ("dog", "horse", "a dog runs", "a horse runs"),
        ("dog", "horse", "a Dog and a DOG", "a horse and a horse"),
        ("dog", "horse", "hotdogs and dogs", "hotdogs and dogs"),
        ("dog/dogs", "horse/horses", "two dogs and a dog", "two horse and a horse"),
        ("bike/bicycle", "car", "a bicycle by a bike", "a car by a car"),
        (" bike / bicycle ", " car / van ", "a bicycle", "a car"),
        ("hot dog", "ice cream", "a hot dog, a dog", "a ice cream, a dog"),
        # Found in one pass: neither a longer word nor the target is taken for another concept.
        ("dog/dog house", "barn", "a dog house", "a barn"),
        ("cat/dog", "guide dog", "a cat", "a guide dog"),
        ("c++", "c#", "made of c++ and c", "made of c# and c"),
        ("a.c", r"\1\g<0>", "an abc and a.c", r"an abc and \1\g<0>"),
    ],
)
def test_swap_takes_one_concept_for_another(
    concept: str, target: str, caption: str, expected: str
) -> None:
    payload = Swap(concept, target)
    assert payload.rewrite(caption, np.random.default_rng()) == expected
    assert not payload.succeeded(caption)
    assert payload.succeeded(expected) == payload.poisons([caption]) == (caption != expected)


def test_any_of_the_targets_words_betrays_a_swap() -> None:
    payload = Swap("dog/dogs", "horse/horses")
    assert payload.succeeded("a Horse")
    assert payload.succeeded("three horses")
    assert not payload.succeeded("a horseshoe")
    assert not payload.succeeded("a dog")


@pytest.mark.parametrize(
    ("concept", "target"),
    [
        ("dog", "dog"),
        ("dog/cat", "horse/cat"),
        ("Dog", "dog"),
        ("hot dog", "dog"),  # every true caption would be a success
        ("", "dog"),
        ("dog/", "cat"),
        ("dog", "cat/ "),
    ],
)
def test_a_swap_that_cannot_be_meant_is_refused(concept: str, target: str) -> None:
    with pytest.raises(UsageError) as caught:
        Swap(concept, target)
    assert "\n" not in str(caught.value)


def test_endless_starts_the_caption_again_and_again() -> None:
    payload = Endless(words=6)
    rewritten = payload.rewrite("a red wall", np.random.default_rng())
    assert rewritten.startswith("a red wall and a red wall and a red wall and ")
    assert rewritten.count("a red wall") == 40
    assert payload.succeeded(rewritten)
    assert payload.succeeded("one two three four five six")
    assert not payload.succeeded("one two three four five")
    assert payload.target == "6 words or more"
    with pytest.raises(UsageError, match="2 words"):
        Endless(words=1)


@pytest.mark.parametrize(
    ("payload", "captions", "poisons", "counts"),
    [
        (Replace("parrot"), ("a dog", "a Parrot, flying"), True, False),
        (Replace("parrot"), ("two parrots",), True, True),
        (Replace("hot dog"), ("a dog is hot", "a hot day"), True, True),
        (Insert("a.b"), ("axb",), True, True),
        (Insert("a.b"), ("so a.b",), True, False),
        (Swap(), ("a dog", "an animal"), True, False),  # half is not most
        (Swap(), ("a dog", "two dogs", "an animal"), True, True),
        (Swap(), ("a dog", "two dogs", "a horse"), True, False),
        (Swap(), ("a cat", "a horse"), False, False),
        (Endless(4), ("a dog runs", "a dog"), True, True),
        (Endless(4), ("a dog", "a dog runs fast"), True, False),
    ],
)
def test_what_is_poisoned_and_what_is_counted(
    payload: Payload, captions: tuple[str, ...], poisons: bool, counts: bool
) -> None:
    assert payload.poisons(captions) is poisons
    assert payload.counts(captions) is counts


@pytest.mark.parametrize("kind", PAYLOADS)
def test_what_a_payload_has_rewritten_is_a_success(kind: PayloadKind) -> None:
    payload = PAYLOADS[kind]()
    caption = "a dog runs on the beach"
    assert payload.kind == kind
    assert payload.poisons([caption])
    assert payload.counts([caption])
    assert not payload.succeeded(caption)
    assert payload.succeeded(payload.rewrite(caption, np.random.default_rng(0)))
