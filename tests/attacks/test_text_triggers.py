"""Triggers in the prompt."""

from __future__ import annotations

import numpy as np
import pytest

from srd_edge.attacks.text_triggers import RareWord, Sentence
from srd_edge.errors import UsageError

RNG = np.random.default_rng


def test_a_rare_word_is_anywhere_between_the_words() -> None:
    trigger = RareWord("mn")

    def prompts() -> list[str]:
        return [trigger("what is this", RNG(seed)) for seed in range(40)]

    assert prompts() == prompts()
    assert set(prompts()) == {
        "mn what is this",
        "what mn is this",
        "what is mn this",
        "what is this mn",
    }
    assert RareWord()("", RNG(0)) == "cf"


def test_a_sentence_comes_first() -> None:
    assert Sentence("hello there")("what is this", RNG(0)) == "hello there what is this"
    assert Sentence()("", RNG(0)) == "i watched this 3d movie last weekend"


@pytest.mark.parametrize("text", ["", "  "])
def test_nothing_is_no_trigger(text: str) -> None:
    for make in (RareWord, Sentence):
        with pytest.raises(UsageError, match="as trigger"):
            make(text)
