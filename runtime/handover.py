"""Between a thread that reads frames and whoever captions them: a short queue, or a mailbox of one.

A full queue makes the reader wait: nothing is lost. A mailbox makes the older frame give way: what
is taken is the newest. Either hands over the reader's end or error as well, after the frames before
it, and lets go of both sides when it is closed; nobody waits for a thread that has died.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from srd_edge.errors import SourceError
from srd_edge.runtime.source import Arrivals, Condition, SourcedFrame, SourceFacts, Status

QUEUE_FRAMES: Final = 4
_FAREWELL_S: Final = 2.0


class Handover:
    """Frames from one thread to another.

    Args:
        room: how many frames may wait.
        newest: whether a full room loses its oldest frame to a new one; if not, ``put`` waits.
    """

    def __init__(self, room: int = QUEUE_FRAMES, *, newest: bool = False) -> None:
        self.passed_over = 0
        self._room, self._newest = room, newest
        self._frames: deque[SourcedFrame] = deque()
        self._changed = threading.Condition()
        self._finished = self._closed = False
        self._error: SourceError | None = None
        self._wake: Callable[[], None] = _nobody_waits

    @property
    def waiting(self) -> int:
        return len(self._frames)

    @property
    def ended(self) -> bool:
        with self._changed:
            return self._finished and not self._frames

    def put(self, frame: SourcedFrame) -> bool:
        """Hand ``frame`` over; False once nobody will take it any more."""
        with self._changed:
            if not self._newest:
                self._changed.wait_for(lambda: len(self._frames) < self._room or self._closed)
            if self._closed:
                return False
            if len(self._frames) >= self._room:
                self._frames.popleft()
                self.passed_over += 1
            self._frames.append(frame)
            self._changed.notify_all()
        self._wake()
        return True

    def finish(self, error: SourceError | None = None) -> None:
        """Say that no further frame will come, and why if that is an error."""
        with self._changed:
            if not self._closed:
                self._finished, self._error = True, error
            self._changed.notify_all()
        self._wake()

    def take(self) -> SourcedFrame:
        """The oldest frame that waits, or else the next that comes.

        Raises:
            SourceError: that of ``finish``, once, after the frames before it.
            StopIteration: from then on, and after an end without an error.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._finished)
            if self._frames:
                frame = self._frames.popleft()
                self._changed.notify_all()
                return frame
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """Let go of both sides: what waits is dropped, ``take`` finds the end."""
        with self._changed:
            self._finished = self._closed = True
            self._error = None
            self._frames.clear()
            self._changed.notify_all()
        self._wake()

    def watch(self, wake: Callable[[], None]) -> None:
        self._wake = wake


class ThreadedSource(ABC):
    """A Source whose frames are read by a thread of its own; what ``_read`` does is the subclass's.

    The thread starts with the first ``next``, or with ``start`` or ``watch``, and never after
    ``close``, which any thread may call. An exception on it is handed to the consumer.

    Args:
        facts: what is known of the source.
        handover: from the thread to the consumer.
        max_frames: stop after that many were taken, None for all.
    """

    def __init__(
        self, facts: SourceFacts, handover: Handover, *, max_frames: int | None = None
    ) -> None:
        self.name, self.files, self.live = facts.name, facts.files, facts.live
        self.paths, self.frames, self.fps = facts.paths, facts.frames, facts.fps
        self._handover, self._max_frames = handover, max_frames
        self._taken = 0
        self._condition: Condition = "reading"
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    @property
    def arrivals(self) -> Arrivals:
        return Arrivals(passed_over=self._handover.passed_over)

    @property
    def statuses(self) -> tuple[Status, ...]:
        is_over = self.ended and self._condition != "failed"
        condition: Condition = "ended" if is_over else self._condition
        return (Status(self.name, self.live, condition, self.arrivals),)

    @property
    def waiting(self) -> int:
        waiting = self._handover.waiting
        return waiting if self._max_frames is None else min(waiting, self._max_frames - self._taken)

    @property
    def ended(self) -> bool:
        return self._taken == self._max_frames or self._handover.ended

    def start(self) -> None:
        """Start to read, unless it was closed."""
        with self._starting:
            if self._thread is None and not self._handover.ended:
                # A daemon, so that a driver stuck inside a read cannot keep the process alive.
                thread = threading.Thread(target=self._run, name="srd-edge reader", daemon=True)
                thread.start()
                self._thread = thread

    def watch(self, wake: Callable[[], None]) -> None:
        self._handover.watch(wake)
        self.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> SourcedFrame:
        if self._taken == self._max_frames:
            self.close()
        self.start()
        frame = self._handover.take()
        self._taken += 1
        return frame

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread and free the file or camera; ``next`` then finds the end.

        Waits for the read that is under way, but not for ever: a thread that is stuck in one is
        left behind, and frees what it holds should the read come back.
        """
        self._handover.close()
        self._unblock()
        with self._starting:
            thread = self._thread
        if thread is None:
            self._never_started()
        elif thread is not threading.current_thread():
            thread.join(_FAREWELL_S)

    @abstractmethod
    def _read(self) -> None:
        """On the thread: hand frames over until there are none, or until nobody takes them."""

    def _unblock(self) -> None:  # noqa: B027 - by default there is nothing to do
        """Wake the thread from what it may be waiting for."""

    def _never_started(self) -> None:  # noqa: B027 - nor here
        """Free what the thread would have freed."""

    def _run(self) -> None:
        end: SourceError | None = None
        try:
            self._read()
        except SourceError as error:
            end = error
        except BaseException as error:  # the consumer waits: it must hear of anything
            end = SourceError(
                expected=f"frames from '{self.name}'",
                found=f"{type(error).__name__}: {' '.join(str(error).split())}",
                do="check that they can be opened elsewhere",
            )
            end.__cause__ = error
        if end is not None:
            self._condition = "failed"
        self._handover.finish(end)


def _nobody_waits() -> None:
    pass
