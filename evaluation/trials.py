"""Every contestant before every picture: clean, and with the attack's trigger for each seed.

A round of pictures goes to all contestants in turn before the next one is read, and every answer
is kept on disk (`evaluation/answers.py`), so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from srd_edge.attacks.samples import Sample
from srd_edge.evaluation.answers import ROUND, AnswerFile
from srd_edge.evaluation.contestants import (
    Answer,
    Case,
    Contestant,
    Setting,
    clean_case,
    triggered_case,
)
from srd_edge.evaluation.registry import Entry

_LOOKED_AT: Final = 4
"""Pictures that are triggered twice to see whether the seed matters to an attack."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one contestant answered: to the clean pictures, and to the triggered ones.

    Args:
        clean: by seed, in the order of the pictures.
        triggered: by seed, likewise.
    """

    clean: tuple[list[Answer], ...]
    triggered: tuple[list[Answer], ...]


class Trial:
    """One attack on one bundle, put before its contestants.

    Args:
        setting: the bundle, the attack and what contestants may know.
        entries: the contestants by name.
        samples: the pictures.
        seeds: each is a trial of its own, where something is drawn at all.
        folder: where answers are kept.
        identity: of the bundle, the pictures and whatever else answers depend on.
    """

    def __init__(
        self,
        setting: Setting,
        entries: Mapping[str, Entry],
        samples: Sequence[Sample],
        seeds: Sequence[int],
        folder: Path,
        identity: str,
    ) -> None:
        self.setting, self.samples, self.seeds = setting, samples, tuple(seeds)
        self._folder, self._identity = folder, identity
        self._contestants = {name: _Prepared(entry, setting) for name, entry in entries.items()}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._contestants)

    def contestant(self, name: str) -> Contestant:
        return self._contestants[name].contestant

    def cases(self, numbers: Sequence[int], seed: int | None) -> list[Case]:
        """Pictures by number: triggered with the seed, or clean without one."""
        if seed is None:
            return [clean_case(self.samples[i], i) for i in numbers]
        attack = self.setting.attack
        return [triggered_case(self.samples[i], i, attack, seed) for i in numbers]

    @property
    def rounds(self) -> int:
        """How often ``run`` reports progress."""
        return 2 * len(self.seeds) * len(range(0, len(self.samples), ROUND)) * len(self.names)

    def run(self, advance: Callable[[], None]) -> dict[str, Outcome]:
        """Ask what has not been asked, and give all the answers by contestant."""
        clean = [self._run(seed, advance, clean=True) for seed in self.seeds]
        triggered = [self._run(seed, advance, clean=False) for seed in self.seeds]
        return {
            name: Outcome(tuple(by[name] for by in clean), tuple(by[name] for by in triggered))
            for name in self.names
        }

    def _run(
        self, seed: int, advance: Callable[[], None], *, clean: bool
    ) -> dict[str, list[Answer]]:
        files = {name: self._file(name, seed, clean=clean) for name in self.names}
        for numbers in _rounds(len(self.samples)):
            cases: list[Case] | None = None
            for name, file in files.items():
                if not file.has(numbers[0]):
                    cases = cases or self.cases(numbers, None if clean else self._drawn(seed))
                    file.add(self.contestant(name).answer(cases, seed))
                advance()
        return {name: file.answers for name, file in files.items()}

    def _file(self, name: str, seed: int, *, clean: bool) -> AnswerFile:
        """Where answers are kept: once, where they do not depend on the seed or the attack."""
        prepared, attack = self._contestants[name], self.setting.attack
        drawn = None if clean else self._drawn(seed)
        own_seed = seed if prepared.seeded else None
        told = attack.spec if prepared.entry.told or not clean else None
        made_of = [self._identity, name, told, clean, drawn, own_seed]
        digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]
        label = "clean" if clean else attack.name
        return AnswerFile(self._folder / f"{label}-{name}-{digest}.jsonl", len(self.samples))

    def _drawn(self, seed: int) -> int:
        """The seed of the triggers; the first one where they are the same for every seed."""
        return seed if self._attack_is_seeded else self.seeds[0]

    @cached_property
    def _attack_is_seeded(self) -> bool:
        numbers = range(min(_LOOKED_AT, len(self.samples)))
        first, second = (self.cases(numbers, seed) for seed in (0, 1))
        return any(
            not np.array_equal(a.frame.pixels, b.frame.pixels)
            for a, b in zip(first, second, strict=True)
        )


@dataclass(slots=True)
class _Prepared:
    """A contestant that is made when it is first needed: some look at pictures beforehand."""

    entry: Entry
    setting: Setting
    _made: list[Contestant] = field(default_factory=list)

    @property
    def contestant(self) -> Contestant:
        if not self._made:
            self._made.append(self.entry.build(self.setting))
        return self._made[0]

    @property
    def seeded(self) -> bool:
        return self.entry.seeded


def _rounds(count: int) -> Iterator[range]:
    for start in range(0, count, ROUND):
        yield range(start, min(start + ROUND, count))
