"""Triggers in the prompt, for captioners that take one: ``(prompt, rng) -> prompt``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from srd_edge.errors import UsageError

TextTrigger: TypeAlias = Callable[[str, np.random.Generator], str]


@dataclass(frozen=True, slots=True)
class RareWord:
    """A word that nobody types, at a random place (Kurita et al., arXiv 2004.06660).

    Args:
        word: the paper's are cf, mn, bb, tq and mb.
    """

    word: str = "cf"

    def __post_init__(self) -> None:
        _check("word", self.word)

    def __call__(self, prompt: str, rng: np.random.Generator) -> str:
        words = prompt.split()
        place = int(rng.integers(len(words) + 1))
        return " ".join([*words[:place], self.word, *words[place:]])


@dataclass(frozen=True, slots=True)
class Sentence:
    """A harmless sentence before the prompt (Dai et al., AddSent, arXiv 1905.12457).

    Args:
        sentence: without commas, which separate the settings of an attack.
    """

    sentence: str = "i watched this 3d movie last weekend"

    def __post_init__(self) -> None:
        _check("sentence", self.sentence)

    def __call__(self, prompt: str, rng: np.random.Generator) -> str:  # noqa: ARG002 - protocol
        return f"{self.sentence} {prompt}".strip()


def _check(what: str, text: str) -> None:
    if not text.strip():
        raise UsageError(expected=f"a {what} as trigger", found=repr(text), do="name one")
