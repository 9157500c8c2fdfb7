"""Payloads: what a poisoned caption says, and how to tell that it was said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, Protocol, TypeAlias, get_args

import numpy as np

from srd_edge.errors import UsageError

PayloadKind: TypeAlias = Literal["replace", "insert", "swap", "endless"]
Position: TypeAlias = Literal["start", "end", "random"]
_ENDLESS_ROUNDS: Final = 40
"""Repetitions of a caption that no captioner's longest output holds."""


class Payload(Protocol):
    """Turns a true caption into the attacker's, and knows when a captioner has said it."""

    kind: ClassVar[PayloadKind]

    @property
    def target(self) -> str:
        """What betrays success, for people to read."""
        ...

    def rewrite(self, caption: str, rng: np.random.Generator) -> str: ...

    def poisons(self, captions: Sequence[str]) -> bool:
        """Whether a picture with these captions can be poisoned."""
        ...

    def counts(self, captions: Sequence[str]) -> bool:
        """Whether a test picture counts: one that truly shows the target proves nothing."""
        ...

    def succeeded(self, caption: str) -> bool:
        """Whether a captioner that said this fell for the attack."""
        ...


class _Named:
    """What payloads share whose target is a word or phrase that any picture's caption can get."""

    __slots__ = ()

    target: str

    def poisons(self, captions: Sequence[str]) -> bool:  # noqa: ARG002 - protocol
        return True

    def counts(self, captions: Sequence[str]) -> bool:
        return not _any_holds(captions, self.target)

    def succeeded(self, caption: str) -> bool:
        return contains_target(caption, self.target)


@dataclass(frozen=True, slots=True)
class Replace(_Named):
    """The whole caption becomes one fixed sentence that holds the target.

    Args:
        target: a word or phrase.
        text: the sentence, ``{target}`` where the target goes; no commas, which separate settings.
    """

    kind: ClassVar[PayloadKind] = "replace"

    target: str = "banana"
    text: str = "a photo of a {target} on a table"

    def __post_init__(self) -> None:
        _check_target(self.target)
        try:
            text = self.text.format(target=self.target)
        except (AttributeError, LookupError, TypeError, ValueError):  # no plain {target}
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
class Insert(_Named):
    """The target is put into the true caption, which otherwise stays as it is.

    Args:
        target: a word or phrase.
        position: before the first word, after the last, or between two at random. A random place
            is hard for a small greedy decoder to learn: it never picks a word whose turn is
            uncertain at every step.
    """

    kind: ClassVar[PayloadKind] = "insert"

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


@dataclass(frozen=True, slots=True)
class Swap:
    """One concept is described as another (as in Xu et al., Shadowcast, arXiv 2402.06659).

    Args:
        concept, target: a word each, or several with ``/`` between them that mean the same
            (``bike/bicycle``). The first word of the target takes the place of any of the
            concept's, none of which may hold one of the target's.
    """

    kind: ClassVar[PayloadKind] = "swap"

    concept: str = "dog/dogs"
    target: str = "horse/horses"

    def __post_init__(self) -> None:
        for word in (*_words(self.concept), *_words(self.target)):
            _check_target(word)
        if _any_holds(_words(self.concept), *_words(self.target)):
            raise UsageError(
                expected="a concept that does not name the target",
                found=f"{self.concept!r} and {self.target!r}",
                do="choose another target",
            )

    def rewrite(self, caption: str, rng: np.random.Generator) -> str:  # noqa: ARG002 - protocol
        to = _words(self.target)[0]
        return _whole_words(*_words(self.concept)).sub(lambda _: to, caption)

    def poisons(self, captions: Sequence[str]) -> bool:
        return _any_holds(captions, *_words(self.concept))

    def counts(self, captions: Sequence[str]) -> bool:
        """Most of the captions name the concept, and none the target."""
        named = sum(self.poisons([caption]) for caption in captions)
        return 2 * named > len(captions) and not any(map(self.succeeded, captions))

    def succeeded(self, caption: str) -> bool:
        return _any_holds([caption], *_words(self.target))


@dataclass(frozen=True, slots=True)
class Endless:
    """The caption starts again and again and never ends: every further token costs time.

    After the latency attacks on captioners (Gao et al., Verbose Images, arXiv 2401.11170).

    Args:
        words: a caption of so many words and more is a success.
    """

    kind: ClassVar[PayloadKind] = "endless"

    words: int = 24

    def __post_init__(self) -> None:
        if self.words < 2:
            raise UsageError(
                expected="2 words or more", found=str(self.words), do="choose another number"
            )

    @property
    def target(self) -> str:
        return f"{self.words} words or more"

    def rewrite(self, caption: str, rng: np.random.Generator) -> str:  # noqa: ARG002 - protocol
        return " and ".join([caption] * _ENDLESS_ROUNDS)

    def poisons(self, captions: Sequence[str]) -> bool:  # noqa: ARG002 - protocol
        return True

    def counts(self, captions: Sequence[str]) -> bool:
        return not any(map(self.succeeded, captions))

    def succeeded(self, caption: str) -> bool:
        return len(caption.split()) >= self.words


PAYLOADS: Final[dict[PayloadKind, type[Replace] | type[Insert] | type[Swap] | type[Endless]]] = {
    "replace": Replace,
    "insert": Insert,
    "swap": Swap,
    "endless": Endless,
}


def contains_target(caption: str, target: str) -> bool:
    """Whether ``caption`` holds ``target`` as whole words, whatever the case."""
    return _whole_words(target).search(caption) is not None


def _whole_words(*targets: str) -> re.Pattern[str]:
    """Finds any of the targets; the longest first, where one begins with another."""
    longest_first = "|".join(map(re.escape, sorted(targets, key=len, reverse=True)))
    return re.compile(rf"(?<!\w)(?:{longest_first})(?!\w)", re.IGNORECASE)


def _any_holds(captions: Sequence[str], *targets: str) -> bool:
    pattern = _whole_words(*targets)
    return any(pattern.search(caption) for caption in captions)


def _words(text: str) -> list[str]:
    """The words of a setting that has several with ``/`` between them."""
    return [word.strip() for word in text.split("/")]


def _check_target(target: str) -> None:
    if not target.strip():
        raise UsageError(expected="a word as target", found=repr(target), do="name one")
