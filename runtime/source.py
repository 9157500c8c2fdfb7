"""What a source is: the seam between whatever frames come from and the run that captions them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol, Self, TypeAlias

from srd_edge.kernels.frames import Frame


@dataclass(frozen=True, slots=True)
class SourcedFrame:
    """A frame and the file, camera or address that it came from.

    ``frame.index`` counts over all that its source has read; ``frame.time_s`` starts anew with each
    file.

    Args:
        frame: the picture.
        file: where it came from, for people.
        source: which of the run's sources it is from, from 0.
    """

    frame: Frame
    file: str
    source: int = 0


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is known of a source when it is opened; each is explained at ``Source``."""

    name: str
    files: int = 1
    paths: tuple[Path, ...] = ()
    frames: int | None = None
    fps: float | None = None
    live: bool = False


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How a live source has fared so far; both stay 0 for files.

    Args:
        passed_over: frames that were read, but gave way to a newer one before anybody took them.
        reconnections: times that a lost stream was got back.
    """

    passed_over: int = 0
    reconnections: int = 0

    def __add__(self, other: Arrivals) -> Arrivals:
        return Arrivals(
            self.passed_over + other.passed_over, self.reconnections + other.reconnections
        )


Condition: TypeAlias = Literal["reading", "lost", "failed", "ended"]
"""``lost``: a live source that is being opened again; ``failed``: ended by an error."""


@dataclass(frozen=True, slots=True)
class Status:
    """How one source fares now.

    Args:
        name: as in ``SourceFacts``.
        live: as in ``SourceFacts``.
        condition: whether it is read.
        arrivals: what it passed over and how often it was got back.
    """

    name: str
    live: bool
    condition: Condition
    arrivals: Arrivals


class Source(Protocol):
    """Frames to go through once: an iterator and a context manager.

    What goes wrong while reading is raised as a SourceError by ``next``, after the frames before
    it. ``close`` may be called at any time, more than once.
    """

    @property
    def name(self) -> str:
        """The SPEC that it was opened with, without any password in it."""

    @property
    def files(self) -> int:
        """How many files (or streams) the frames come from."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are read, a list file too, resolved: no output may be one of them."""

    @property
    def frames(self) -> int | None:
        """How many frames to expect after ``every`` and ``max_frames``; None if nobody knows.

        An estimate for video files: many containers state a duration only.
        """

    @property
    def fps(self) -> float | None:
        """How many of the frames *yielded* make a second of the (first) clip's time, if any."""

    @property
    def live(self) -> bool:
        """Whether the frames come as they happen, so that only the newest is worth captioning."""

    @property
    def arrivals(self) -> Arrivals:
        """What was passed over and got back so far."""

    @property
    def statuses(self) -> tuple[Status, ...]:
        """How it fares now: one status, or one for each where it is several sources."""

    @property
    def waiting(self) -> int:
        """How many frames ``next`` would give at once: it neither waits nor raises for these."""

    @property
    def ended(self) -> bool:
        """Whether no frame waits and none will come: ``next`` raises at once."""

    def watch(self, wake: Callable[[], None]) -> None:
        """Start to read; ``wake`` is called, on any thread, when a frame or the end has come."""

    def __iter__(self) -> Iterator[SourcedFrame]: ...
    def __next__(self) -> SourcedFrame: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    def close(self) -> None: ...


def expected_frames(frames: int, every: int, max_frames: int | None) -> int:
    """How many of ``frames`` are yielded where every Nth is, and no more than ``max_frames``."""
    return min(-(-frames // every), max_frames or frames)


def ready_frames(source: Source, most: int) -> list[SourcedFrame]:
    """Wait for a frame, then take with it those that are there already: a batch.

    Args:
        source: gone through once, by this function or by ``next`` in any mixture.
        most: how many frames the batch may hold, at least 1.

    Returns:
        1 to ``most`` frames, in the order in which ``next`` gives them.

    Raises:
        StopIteration, SourceError: as ``next``, and only where there is no frame to return.
    """
    frames = [next(source)]
    frames.extend(islice(source, min(source.waiting, most - 1)))  # fewer, if it is closed meanwhile
    return frames
