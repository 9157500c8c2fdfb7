"""Films that end, fail or are stuck, and a camera that opens one after the other."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srd_edge.errors import SourceError
from srd_edge.runtime.live_source import LiveSource
from srd_edge.runtime.source import SourceFacts
from srd_edge.runtime.streams import Capture

NOTHING = SourceError(expected="a camera", found="nothing there", do="look")


@dataclass
class Film:
    """A capture that shows ``frames`` pictures and then ends, fails or is stuck.

    Args:
        frames: how many; picture i of it is ``first + i`` bright.
        end: False, an exception, or an event that is waited for.
        pace: waited for before each frame.
        torn: the numbers of those that no picture can be made of.
    """

    frames: int
    first: int = 0
    end: BaseException | threading.Event | None = None
    pace: Callable[[int], object] = lambda _: None
    torn: Container[int] = ()
    looked_at: list[int] = field(default_factory=list)
    shown: int = -1
    released: bool = False

    def grab(self) -> bool:
        self.shown += 1
        if self.shown < self.frames:
            self.pace(self.shown)
            return True
        if isinstance(self.end, threading.Event):
            self.end.wait()
        elif self.end is not None:
            raise self.end
        return False

    def retrieve(self) -> tuple[bool, NDArray[Any]]:
        self.looked_at.append(self.shown)
        return self.shown not in self.torn, np.full((2, 2, 3), self.first + self.shown, np.uint8)

    def release(self) -> None:
        self.released = True


@dataclass
class Camera:
    """Opens one film after the other; where there is an error in place of one, it fails.

    Its consumer is in step: no film shows a picture before the last one was taken.
    """

    films: Sequence[Film | SourceError]
    opened: int = 0
    waits_s: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    taken: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(1))

    def open(self) -> Capture:
        film = self.films[self.opened]
        self.opened += 1
        if isinstance(film, SourceError):
            raise film
        film.pace = lambda shown: shown in film.torn or self.taken.acquire()
        return film

    def sleep(self, seconds: float) -> bool:
        self.waits_s.append(seconds)
        return False

    def source(self, **options: Any) -> LiveSource:
        ticks = itertools.count(100.0)
        return LiveSource(
            self.open,
            SourceFacts("cam", live=True),
            say=self.said.append,
            clock=lambda: next(ticks),
            sleep=self.sleep,
            **options,
        )

    def seen(self, source: LiveSource) -> Iterator[tuple[int, float, int]]:
        """Number, time and brightness of each frame, taken as it comes."""
        for item in source:
            yield item.frame.index, item.frame.time_s, int(item.frame.pixels[0, 0, 0])
            self.taken.release()


class Stuck(Film):
    """Shows one picture, and is stuck while the next is decoded."""

    def __init__(self) -> None:
        super().__init__(2)
        self.goes_on, self.let_go = threading.Event(), threading.Event()

    def retrieve(self) -> tuple[bool, NDArray[Any]]:
        if self.shown == 1:
            assert self.goes_on.wait(30)
        return super().retrieve()

    def release(self) -> None:
        self.let_go.set()
