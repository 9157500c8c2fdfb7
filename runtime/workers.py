"""Who makes a frame's caption: the caller, or a process that need not be waited for.

A model's call cannot be stopped halfway, and on a busy machine any of them may take three times as
long as it did before. So a caller with a deadline waits until then and no longer; the work goes on,
and its caption is there for the next frames.
"""

from __future__ import annotations

import mmap
import os
import time
import weakref
from collections import defaultdict
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from srd_edge.kernels.frames import Frame
from srd_edge.runtime.budget import HAND_OVER, WHOLE, FrameTimer, StageCosts
from srd_edge.runtime.captioning_link import Link, first_link
from srd_edge.runtime.captioning_process import Asked, Opened, Opening, Shown, Told, frames_in
from srd_edge.runtime.pipeline import Pipeline
from srd_edge.runtime.records import Result

_NEVER_S: Final = float("inf")
_WAKINGS: Final = 1000
_SHORTEST_S: Final = 0.25
_LONGEST_S: Final = 30.0
_FIRST_GUESS_S: Final = 0.5e-3
_SAFETY: Final = 1.25
_MOST_SPARE: Final = 0.5


class Worker(Protocol):
    """Captions frames, some side by side, one lot at a time."""

    @property
    def provider(self) -> str:
        """As for ``Pipeline``."""

    @property
    def fallback(self) -> str | None:
        """As for ``Pipeline``."""

    @property
    def runs_over(self) -> bool:
        """Whether work goes on when nobody waits for it any more."""

    @property
    def spare_s(self) -> float:
        """Seconds before a deadline that work has to be done by, so that it is known by then."""

    def costs(self, frames: int = 1) -> StageCosts:
        """What so many frames side by side have been found to cost."""

    def begin(self, frames: Sequence[Frame], timer: FrameTimer) -> Sequence[Frame]:
        """Take frames on; those before them have been waited for.

        Returns:
            The frames as they are looked at; the caller may write over the ones that it gave.
        """

    def wait(self, until_s: float) -> list[Result] | None:
        """What is said of them; None where it is not known by ``until_s``. Raises what went wrong.

        Asked again, it says the same: a caller may have been interrupted before it took it in.

        Args:
            until_s: on the timer's clock; infinity waits for as long as it takes.
        """

    def handed_back(self) -> None:
        """Told when the caller has done with what it waited for, or with having to do without."""

    def undefended(self, frame: Frame) -> str:
        """As ``Pipeline.undefended``, while nothing else is begun."""

    def close(self) -> None:
        """Let go of what is held beside this process's memory."""


class AtOnce:
    """The caller does the work itself, however long it takes."""

    runs_over: Final = False
    spare_s: Final = 0.0

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.provider, self.fallback = pipeline.provider, pipeline.fallback
        self.costs, self.undefended = pipeline.costs, pipeline.undefended
        self._begun: tuple[Sequence[Frame], FrameTimer] | None = None

    def begin(self, frames: Sequence[Frame], timer: FrameTimer) -> Sequence[Frame]:
        self._begun = frames, timer
        return frames

    def wait(self, until_s: float) -> list[Result]:  # noqa: ARG002 - it takes as long as it takes
        assert self._begun is not None, "nothing to wait for"
        return self.pipeline.captions(*self._begun)

    def handed_back(self) -> None:
        """Nothing is learned of it."""

    def close(self) -> None:
        """Nothing is held."""


class Worst:
    """The largest of the last thousand values or more, at most two thousand.

    Args:
        first: counts as one of them.
    """

    def __init__(self, first: float) -> None:
        self._before, self._now, self._count = first, 0.0, 0

    @property
    def value(self) -> float:
        return max(self._before, self._now)

    def add(self, value: float) -> None:
        self._now, self._count = max(self._now, value), self._count + 1
        if self._count == _WAKINGS:
            self._before, self._now, self._count = self._now, 0.0, 0


class Vigil:
    """A while without sleep, after a deadline was slept through.

    A quarter of a second at first; four times as long each time that the next one is slept through
    soon after, and half as long where that is long ago.
    """

    def __init__(self) -> None:
        self._length_s, self._began_s = _SHORTEST_S, -_NEVER_S

    def lasts(self, now_s: float) -> bool:
        return now_s < self._began_s + self._length_s

    def begin(self, now_s: float) -> None:
        ago_s = now_s - self._began_s
        if ago_s < 4 * self._length_s:
            self._length_s = min(4 * self._length_s, _LONGEST_S)
        elif ago_s > 16 * self._length_s:
            self._length_s = max(self._length_s / 2, _SHORTEST_S)
        self._began_s = now_s


class OnProcess:
    """A process of its own does the work (``srd_edge.runtime.captioning_process``).

    Whoever sleeps until a deadline is woken after it: by a tenth of a millisecond on an idle
    machine, by several where other processes want its cores. What is left to do then takes its
    time too, and several times as much where a core has become slow. So it is learned how late the
    results were handed back, and so much is kept to spare, at most half of the budget. Where a
    deadline was slept through all the same, nobody sleeps for a while, and for longer where that
    happens often: what is said of a frame is known when the next one comes.

    Interrupted anywhere, it goes on with the next question. What was asked last is asked again of
    another process where the interruption came amid a message; that takes as long as opening does.

    Args:
        opening: what the process opens.

    Raises:
        SrdEdgeError: as ``Pipeline`` raised it there.
    """

    runs_over: Final = True

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._most_spare_s = _MOST_SPARE * opening.budget_ms / 1e3
        self._costs = defaultdict[int, StageCosts](StageCosts)
        self._late_s = Worst(_FIRST_GUESS_S)
        self._vigil = Vigil()
        self._begun: tuple[int, float] | None = None
        self._woken_by_s: float | None = None
        self._asked = Asked((), None)
        self._memory: mmap.mmap | None = None
        self._file, self._link = first_link()
        weakref.finalize(self, os.close, self._file)
        opened = self._open(self._link)
        self.provider, self.fallback = opened.provider, opened.fallback

    @property
    def spare_s(self) -> float:
        """A quarter more than the most that results were late by, of late, after a sleep."""
        return min(_SAFETY * self._late_s.value, self._most_spare_s)

    def costs(self, frames: int = 1) -> StageCosts:
        return self._costs[frames]

    def begin(self, frames: Sequence[Frame], timer: FrameTimer) -> Sequence[Frame]:
        with timer.stage(HAND_OVER):
            shown = tuple(Shown(frame.index, frame.time_s, frame.pixels.shape) for frame in frames)
            kept = self._copied(frames, shown)
            self._ask(Asked(shown, timer.start_s, self.spare_s))
        self._begun = len(frames), time.perf_counter()
        return kept

    def wait(self, until_s: float) -> list[Result] | None:
        if self._link.broken:
            self._ask(self._asked)
        asked_s, due_s = time.perf_counter(), until_s - self.spare_s
        if until_s != _NEVER_S and self._vigil.lasts(asked_s):
            due_s = min(due_s, asked_s)
        told: Told | None = self._link.answer(due_s)
        woken_by_s = due_s if told is None else told.done_s
        self._woken_by_s = woken_by_s if woken_by_s > asked_s else None
        if self._woken_by_s is not None and (now_s := time.perf_counter()) > until_s:
            self._vigil.begin(now_s)
        if told is None:
            return None
        if self._begun is not None:
            (count, begun_s), self._begun = self._begun, None
            self._costs[count].learn(WHOLE, (told.done_s - begun_s) * 1e3)
        return told.results

    def handed_back(self) -> None:
        if self._woken_by_s is not None:
            self._late_s.add(time.perf_counter() - self._woken_by_s)
            self._woken_by_s = None

    def undefended(self, frame: Frame) -> str:
        shown = (Shown(frame.index, frame.time_s, frame.pixels.shape),)
        self._copied([frame], shown)
        self._ask(Asked(shown, None))
        caption: str = self._link.answer()
        return caption

    def close(self) -> None:
        """End the process; asked again, another is started."""
        self._link.abandon()
        self._link.broken = True

    def _ask(self, asked: Asked) -> None:
        """Ask, of another process where the one there is of no use any more."""
        if self._link.broken:
            self._link.abandon()
            link = Link(self._file)
            self._open(link)
            self._link = link
        self._asked = asked
        self._link.ask(asked)

    def _open(self, link: Link) -> Opened:
        link.ask(self._opening)
        opened: Opened = link.answer()
        return opened

    def _copied(self, frames: Sequence[Frame], shown: Sequence[Shown]) -> list[Frame]:
        """The frames in the common memory."""
        size = sum(frame.pixels.size for frame in frames)
        if self._memory is None or len(self._memory) < size:
            os.ftruncate(self._file, size)
            self._memory = mmap.mmap(self._file, size)
        kept = frames_in(self._memory, shown)
        for frame, copy in zip(frames, kept, strict=True):
            np.copyto(copy.pixels, frame.pixels)
        return kept
