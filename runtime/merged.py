"""Several sources as one: each is read by a thread of its own, and they take turns.

Whichever source has a frame is served, in turn, so that neither a slow nor a busy one holds up the
others. Frames keep the numbers of their own source; ``SourcedFrame.source`` tells sources apart.
One that fails ends alone, with a line; the others go on.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from srd_edge.errors import SourceError, UsageError
from srd_edge.runtime.source import Arrivals, Source, SourcedFrame, Status


class MergedSource:
    """The Source over several; ``ready_frames`` of it are a batch from all that have a frame.

    At the end a SourceError is raised if every source failed, or if any did that is no live one: a
    damaged file is damaged though others were whole.

    Args:
        sources: at least one; closed by ``close``.
        max_frames: stop after that many were taken from all of them together, None for all.
        say: told in a line of each failure that is not raised, when it happens.

    Raises:
        UsageError: if a file would be read by two of them: the results could not be told apart.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        max_frames: int | None = None,
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._sources, self._max_frames, self._say = tuple(sources), max_frames, say
        self.name = " + ".join(source.name for source in sources)
        self.files = sum(source.files for source in sources)
        self.paths = _distinct([source.paths for source in sources])
        self.live = any(source.live for source in sources)
        self.fps: float | None = None
        counts = [source.frames for source in sources if source.frames is not None]
        self.frames = max_frames
        if len(counts) == len(sources):
            self.frames = min(sum(counts), max_frames or sum(counts))
        self._turns = deque(range(len(sources)))
        self._taken = 0
        self._failed: list[tuple[Source, SourceError]] = []
        self._news = threading.Event()
        self._watching = self._closed = False

    @property
    def arrivals(self) -> Arrivals:
        return sum((source.arrivals for source in self._sources), Arrivals())

    @property
    def statuses(self) -> tuple[Status, ...]:
        return tuple(status for source in self._sources for status in source.statuses)

    @property
    def waiting(self) -> int:
        if self._closed:
            return 0
        waiting = sum(source.waiting for source in self._sources)
        return waiting if self._max_frames is None else min(waiting, self._max_frames - self._taken)

    @property
    def ended(self) -> bool:
        is_done = self._closed or self._taken == self._max_frames
        return is_done or all(source.ended for source in self._sources)

    def watch(self, wake: Callable[[], None]) -> None:
        self._watching = True

        def both() -> None:
            self._news.set()
            wake()

        for source in self._sources:
            source.watch(both)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> SourcedFrame:
        if self._taken == self._max_frames:
            self.close()
        if not self._watching:
            self.watch(lambda: None)
        while self._turns and not self._closed:
            self._news.clear()  # before looking: what comes from now on is not overlooked
            for _ in range(len(self._turns)):
                frame = self._take_turn()
                if frame is not None:
                    self._taken += 1
                    return frame
            if self._turns:
                self._news.wait()
        error = self._failure()
        self._failed.clear()
        if error is not None and not self._closed:
            raise error
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close them all, though one should fail to; ``next`` then finds the end."""
        self._closed = True  # and no more than that: another thread may be taking a frame
        with contextlib.ExitStack() as closing:
            for source in reversed(self._sources):
                closing.callback(source.close)

    def _take_turn(self) -> SourcedFrame | None:
        """A frame of the source whose turn it is, if it has one; it goes to the end of the line."""
        number = self._turns.popleft()
        source = self._sources[number]
        if not (source.waiting or source.ended):
            self._turns.append(number)
            return None
        try:
            frame = next(source)
        except StopIteration:
            return None
        except SourceError as error:
            self._failed.append((source, error))
            if self._turns:
                self._say(f"{source.name}: {error}; the other sources go on")
            elif self._failure() is not error:  # that one will be raised
                self._say(f"{source.name}: {error}")
            return None
        self._turns.append(number)
        return replace(frame, source=number)

    def _failure(self) -> SourceError | None:
        """What the run is to end with, as things stand."""
        damaged = [error for source, error in self._failed if not source.live]
        if damaged or len(self._failed) == len(self._sources):
            return damaged[0] if damaged else self._failed[-1][1]
        return None


def _distinct(paths: Sequence[tuple[Path, ...]]) -> tuple[Path, ...]:
    """All paths, none twice."""
    counts = Counter(path for some in paths for path in set(some))
    twice = next((path for path, count in counts.items() if count > 1), None)
    if twice is not None:
        raise UsageError(
            expected="each file in one of the sources only",
            found=f"'{twice}' in two",
            do="leave one out",
        )
    return tuple(counts)
