"""Live sources: the newest frame only, and a lost stream is got back.

A thread reads one frame after the other, so that the camera's own buffer never fills, and keeps the
newest; a consumer that is slower gets the frame that is true now, and those between are counted. A
second thread watches the first: a stream that ends, fails or shows nothing for too long is given up
and opened again, after waits that double. Data of which no picture can be made is nothing. The
reading thread may be stuck in a driver by then; it is left behind, and whatever it still reads is
dropped.

Frames are numbered as they are read, over all connections, and their time is that of their arrival
after the first one on this machine's clock, whatever the driver says.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import cv2

from srd_edge.errors import SourceError, UsageError
from srd_edge.kernels.frames import Frame, rgb_from_cv2
from srd_edge.runtime.handover import Handover, ThreadedSource
from srd_edge.runtime.source import Arrivals, SourcedFrame, SourceFacts
from srd_edge.runtime.streams import OPEN_TIMEOUT_S, Capture

STALL_S: Final = 10.0
ATTEMPTS: Final = 20

_LONGEST_STALL_S: Final = 86_400
"""In milliseconds OpenCV has room for 25 days."""
_OPENING_SLACK_S: Final = 5.0
_FAREWELL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a live source is waited for.

    Args:
        stall_s: a stream without a picture for so many seconds, at most a day, is lost.
        attempts: to open a lost stream again, before it is given up; 0 for none.
        first_wait_s: before the first of them; each later wait is twice as long.
        longest_wait_s: no wait is longer.

    Raises:
        UsageError: for a time that is not above 0, a longer silence, or attempts below 0.
    """

    stall_s: float = STALL_S
    attempts: int = ATTEMPTS
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.stall_s <= _LONGEST_STALL_S:
            raise UsageError(
                expected=f"above 0 s and at most {_LONGEST_STALL_S} s of silence, a day",
                found=f"{self.stall_s:g} s",
                do=f"leave --stall-s out for {STALL_S:g} s",
            )
        if not (min(self.first_wait_s, self.longest_wait_s) > 0 <= self.attempts):
            raise UsageError(
                expected="waits above 0 s and a number of attempts",
                found=f"{self.attempts} attempts, waits of {self.first_wait_s:g} to"
                f" {self.longest_wait_s:g} s",
                do="raise --reconnect",
            )

    def waits_s(self) -> Iterator[float]:
        """How long to wait before each attempt, in seconds."""
        for attempt in range(self.attempts):
            yield min(self.first_wait_s * 2.0 ** min(attempt, 32), self.longest_wait_s)


class LiveSource(ThreadedSource):
    """The Source over a capture that can be opened again.

    Args:
        open_capture: opens it, with a SourceError if that fails; called on a thread.
        facts: what is known of it; ``name`` is for people, so without a password.
        every: only frames whose number is a multiple of it are handed over.
        max_frames: stop after that many, None for all.
        patience: how long it is waited for.
        say: told in a line when the stream is lost, and when it is back; on a thread.
        clock: seconds, rising.
        sleep: waits so many seconds and says whether to stop; by default until ``close``.
    """

    def __init__(
        self,
        open_capture: Callable[[], Capture],
        facts: SourceFacts,
        *,
        every: int = 1,
        max_frames: int | None = None,
        patience: Patience | None = None,
        say: Callable[[str], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], bool] | None = None,
    ) -> None:
        super().__init__(facts, Handover(1, newest=True), max_frames=max_frames)
        self._open, self._every = open_capture, every
        self._patience, self._say, self._clock = patience or Patience(), say, clock
        self._stopped = threading.Event()
        self._sleep = sleep or self._stopped.wait
        self._changed = threading.Condition()
        self._connection: _Connection | None = None
        self._count, self._shown, self._first_s, self._reconnections = 0, 0, 0.0, 0

    @property
    def arrivals(self) -> Arrivals:
        return Arrivals(self._handover.passed_over, self._reconnections)

    def _unblock(self) -> None:
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()

    def _read(self) -> None:
        waits, attempts, before = self._patience.waits_s(), 0, -1
        while True:
            why = self._follow_connection(attempts)
            if self._stopped.is_set():
                return
            if not self._shown:
                raise self._given_up(why, "before the first")
            if self._shown > before:
                waits, attempts, before = self._patience.waits_s(), 0, self._shown
                if self._patience.attempts:
                    self._condition = "lost"
                    self._say(f"{self.name}: lost after {before} frames ({why}); trying again")
            wait_s = next(waits, None)
            if wait_s is None:
                tried = f"after {before} frames, and not back in {attempts} attempts"
                raise self._given_up(why, tried if attempts else f"after {before} frames")
            attempts += 1
            if self._sleep(wait_s):
                return

    def _follow_connection(self, attempts: int) -> str:
        """Open the stream, and watch it until it is lost or the source is closed.

        Returns:
            Why it is lost, for people.

        Raises:
            BaseException: whatever went wrong that has nothing to do with the stream.
        """
        start, seen = self._shown, 0
        connection = self._connection = _Connection(self._open, self._deliver, self._changed)
        connection.thread.start()
        try:
            while True:
                in_time = self._wait_for_life(connection, seen)
                seen = connection.signs
                if attempts and self._shown > start:
                    self._reconnections += 1
                    self._condition = "reading"
                    self._say(
                        f"{self.name}: back after {attempts} attempt{'s' if attempts > 1 else ''}"
                    )
                    attempts = 0
                if connection.error is not None:
                    raise connection.error
                if connection.ended or self._stopped.is_set():
                    return connection.why
                if not in_time:
                    what = "no whole picture" if connection.torn else "nothing"
                    return f"{what} for {self._patience.stall_s:g} s"
        finally:
            with self._changed:
                self._connection = None  # what it still reads is dropped
            connection.thread.join(_FAREWELL_S if self._stopped.is_set() else 0)

    def _wait_for_life(self, connection: _Connection, seen: int) -> bool:
        """Wait for more signs of life than ``seen``, or the end; False if none comes in time."""
        opening_s = max(self._patience.stall_s, OPEN_TIMEOUT_S + _OPENING_SLACK_S)
        with self._changed:
            return self._changed.wait_for(
                lambda: connection.signs > seen or connection.ended or self._stopped.is_set(),
                self._patience.stall_s if connection.opened else opening_s,
            )

    def _deliver(self, connection: _Connection, capture: Capture) -> bool:
        """Number the frame that was grabbed and hand it over; False if nobody wants it any more.

        Between two that are wanted, a frame is a sign of life by itself, as long as the last one
        that was looked at was a picture.
        """
        now = self._clock()
        with self._changed:
            if self._is_left_behind(connection):
                return False
            index = self._count
            self._count += 1
            if index == 0:
                self._first_s = now
        is_wanted, torn, frame = index % self._every == 0, False, None
        if is_wanted or connection.torn is not False:
            ok, image = capture.retrieve()
            torn = not ok
            if ok and is_wanted:
                frame = Frame(rgb_from_cv2(image), index, now - self._first_s)
        with self._changed:
            if self._is_left_behind(connection):  # since it was decoded, or stuck there
                return False
            connection.torn = torn
            if not torn:
                self._shown += 1
                connection.live()
            if frame is not None:
                self._handover.put(SourcedFrame(frame, self.name))
        return True

    def _is_left_behind(self, connection: _Connection) -> bool:
        return connection is not self._connection or self._stopped.is_set()

    def _given_up(self, why: str, when: str) -> SourceError:
        return SourceError(
            expected=f"frames from {self.name} until it is stopped",
            found=f"{why} {when}",
            do="check the camera and its connection, then start again",
        )


class _Connection:
    """A thread that opens a capture and reads it until it ends, fails, or nobody wants its frames.

    ``signs`` of life are counted under the condition ``changed``, which is told of each, and of the
    end. ``torn`` says whether no picture could be made of the last frame that was looked at; None
    before the first.
    """

    def __init__(
        self,
        open_capture: Callable[[], Capture],
        deliver: Callable[[_Connection, Capture], bool],
        changed: threading.Condition,
    ) -> None:
        self._open, self._deliver, self._changed = open_capture, deliver, changed
        self.signs, self.opened, self.ended = 0, False, False
        self.torn: bool | None = None
        self.why = "the end of the stream"
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="srd-edge camera", daemon=True)

    def _run(self) -> None:
        why, failure = self.why, self.error
        try:
            capture = self._open()
            try:
                self._is_open()
                while capture.grab() and self._deliver(self, capture):
                    pass
            finally:
                capture.release()
        except (SourceError, cv2.error) as error:
            why = error.found if isinstance(error, SourceError) else f"OpenCV: {error.err}"
        except BaseException as error:  # raised anew by the watching thread
            failure = error
        with self._changed:
            self.why, self.error, self.ended = why, failure, True
            self._changed.notify_all()

    def _is_open(self) -> None:
        with self._changed:
            self.opened = True
            self.live()

    def live(self) -> None:
        """Count a sign of life, under the condition."""
        self.signs += 1
        self._changed.notify_all()
