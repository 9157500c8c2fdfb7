"""Who does a frame's work: the caller, or a thread that need not be waited for.

A model's call cannot be stopped halfway, and on a busy machine any of them may take three times as
long as it did before. So a caller with a deadline waits for a thread until then and no longer; the
work goes on, and its caption is there for the next frames.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Generic, Protocol, TypeVar

from srd_edge.runtime.budget import Clock

T = TypeVar("T")

_WAKINGS_KEPT: Final = 200
_FIRST_GUESS_S: Final = 0.5e-3


class Worker(Protocol[T]):
    """Does one piece of work at a time."""

    @property
    def runs_over(self) -> bool:
        """Whether work goes on when nobody waits for it any more."""

    @property
    def spare_s(self) -> float:
        """Seconds before a deadline that work has to be done by, so that it is known by then."""

    def begin(self, work: Callable[[], T]) -> None:
        """Take ``work`` on; what was taken on before has been waited for."""

    def wait(self, until_s: float) -> T | None:
        """What the work came to; None where it is not done by ``until_s``. Raises what it raised.

        Args:
            until_s: on the worker's clock; infinity waits for as long as it takes.
        """


class AtOnce(Generic[T]):
    """The caller does the work itself, however long it takes."""

    runs_over: Final = False
    spare_s: Final = 0.0

    def __init__(self) -> None:
        self._work: Callable[[], T] | None = None

    def begin(self, work: Callable[[], T]) -> None:
        self._work = work

    def wait(self, until_s: float) -> T | None:  # noqa: ARG002 - it takes as long as it takes
        assert self._work is not None, "nothing to wait for"
        return self._work()


class OnThread(Generic[T]):
    """A thread does the work.

    Args:
        clock: seconds, rising, at the pace of real time.
        most_spare_s: that are kept before a deadline, however late this caller is woken.
    """

    runs_over: Final = True

    def __init__(
        self, clock: Clock = time.perf_counter, *, most_spare_s: float = float("inf")
    ) -> None:
        self._clock, self._most_spare_s = clock, most_spare_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="srd-edge")
        self._future: Future[tuple[T, float]] | None = None
        self._late_s = deque([_FIRST_GUESS_S], maxlen=_WAKINGS_KEPT)

    @property
    def spare_s(self) -> float:
        """The most that this caller was woken too late by, of its last wakings."""
        return min(max(self._late_s), self._most_spare_s)

    def begin(self, work: Callable[[], T]) -> None:
        assert self._future is None, "one piece of work at a time"
        self._future = self._thread.submit(lambda: (work(), self._clock()))

    def wait(self, until_s: float) -> T | None:
        assert self._future is not None, "nothing to wait for"
        asked_s = self._clock()
        due_s = until_s - self.spare_s
        patience_s = None if due_s == float("inf") else max(due_s - asked_s, 0.0)
        if not futures.wait([self._future], patience_s).done:
            self._late_s.append(self._clock() - max(due_s, asked_s))
            return None
        future, self._future = self._future, None
        work, done_s = future.result()
        self._late_s.append(self._clock() - max(done_s, asked_s))
        return work
