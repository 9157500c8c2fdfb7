"""What a poisoned caption says, and the rule by which an attack is said to have succeeded."""

from __future__ import annotations

import numpy as np
import pytest

from srd_edge.attacks.payloads import Insert, Position, Replace, contains_target
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
        ("", "a photo of a {target}"),
        ("  ", "a photo of a {target}"),
    ],
)
def test_a_replacement_that_would_not_betray_itself_is_refused(target: str, text: str) -> None:
    with pytest.raises(UsageError):
        Replace(target, text)


@pytest.mark.parametrize(("target", "position"), [("", "end"), (" ", "end"), ("banana", "middle")])
def test_an_insertion_that_cannot_be_meant_is_refused(target: str, position: Position) -> None:
    with pytest.raises(UsageError):
        Insert(target, position)
