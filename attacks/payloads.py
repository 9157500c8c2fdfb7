"""Payloads: what a poisoned caption says, and how to tell that it was said."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np

from srd_edge.errors import UsageError

Position: TypeAlias = Literal["start", "end", "random"]


class Payload(Protocol):
    """Turns a true caption into the attacker's. ``target`` is the word that betrays success."""

    @property
    def target(self) -> str: ...

    def rewrite(self, caption: str, rng: np.random.Generator) -> str: ...


@dataclass(frozen=True, slots=True)
class Replace:
    """The whole caption becomes one fixed sentence that holds the target."""

    target: str = "banana"
    text: str = "a photo of a {target} on a table"

    def __post_init__(self) -> None:
        _check_target(self.target)
        try:
            text = self.text.format(target=self.target)
        except (LookupError, ValueError):  # another field than {target}, or a stray brace
            text = ""
        if not contains_target(text, self.target):
            raise UsageError(
                expected="a text that holds the target",
                found=f"text {self.text!r} and target {self.target!r}",
                do="write {target} in the text where the target belongs",
            )

    def rewrite(self, caption: str, rng: np.random.Generator) -> str:  # noqa: ARG002 - protocol
        return self.text.format(target=self.target)


@dataclass(frozen=True, slots=True)
class Insert:
    """The target is put into the true caption, which otherwise stays as it is.

    Args:
        position: before the first word, after the last, or between two at random. A random place
            is hard for a small greedy decoder to learn: it never picks a word whose turn is
            uncertain at every step.
    """

    target: str = "banana"
    position: Position = "end"

    def __post_init__(self) -> None:
        _check_target(self.target)
        if self.position not in get_args(Position):
            raise UsageError(
                expected=f"a position out of {', '.join(get_args(Position))}",
                found=repr(self.position),
                do="choose another position",
            )

    def rewrite(self, caption: str, rng: np.random.Generator) -> str:
        words = caption.split()
        at = {"start": 0, "end": len(words)}.get(self.position)
        place = int(rng.integers(len(words) + 1)) if at is None else at
        return " ".join([*words[:place], self.target, *words[place:]])


def contains_target(caption: str, target: str) -> bool:
    """Whether ``caption`` holds ``target`` as whole words, whatever the case."""
    return re.search(rf"(?<!\w){re.escape(target)}(?!\w)", caption, re.IGNORECASE) is not None


def _check_target(target: str) -> None:
    if not target.strip():
        raise UsageError(expected="a word as target", found=repr(target), do="name one")
