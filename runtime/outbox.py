"""Results on their way over a network: a queue and a thread, so that no network holds up the run.

What cannot be delivered now is tried again, after longer and longer pauses. Meanwhile results
wait; when there are too many, the oldest that waits is dropped and counted. People are told once,
in one line, that something is wrong, and at the end how many results were lost. A result may
arrive twice (its receipt may be what was lost), but never out of order.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from srd_edge.errors import RunError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.budget import Clock
from srd_edge.runtime.records import Result

ROOM: Final = 256
"""Results that wait: ten seconds of a stream, and a few hundred kilobytes."""
CLOSING_S: Final = 5.0
"""How long the end of a run waits for what is still queued."""

Pause: TypeAlias = Callable[[threading.Event, float], object]
"""Waits for the event, but no longer than so many seconds."""

_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 30.0


class Carrier(Protocol):
    """Brings results to one place, one after the other, on the outbox's thread."""

    @property
    def name(self) -> str:
        """Where to, for people; nothing secret is in it."""

    def deliver(self, result: Result) -> str | None:
        """Deliver a result, or see that it will be.

        Returns:
            None, or why it was refused and would be refused again.

        Raises:
            OSError: if it could not be delivered now.
        """

    def settle(self, seconds: float) -> int:
        """Wait so long for receipts; how many results are without one."""

    def close(self) -> None: ...


class Outbox:
    """The sink before a carrier.

    Args:
        carrier: closed with the outbox.
        say: told in a line what is wrong, from any thread.
        room: how many results may wait.
        closing_s: how long ``close`` waits, in seconds.
        pause, clock: the time, for tests.
    """

    def __init__(
        self,
        carrier: Carrier,
        say: Callable[[str], object],
        *,
        room: int = ROOM,
        closing_s: float = CLOSING_S,
        pause: Pause = threading.Event.wait,
        clock: Clock = time.monotonic,
    ) -> None:
        self.name = carrier.name
        self._carrier, self._say, self._room = carrier, say, room
        self._closing_s, self._pause, self._clock = closing_s, pause, clock
        self._queue: deque[Result] = deque()
        self._state = threading.Condition()
        self._hurry = threading.Event()
        self._is_underway = self._is_closing = self._is_over = False
        self._has_told_trouble = self._has_told_loss = False
        self._lost = 0
        self._thread = threading.Thread(target=self._work, name="srd-edge outbox", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """How many results were dropped or refused."""
        return self._lost

    def write(self, frame: Frame, result: Result) -> None:  # noqa: ARG002 - the protocol's
        with self._state:
            is_full = len(self._queue) >= self._room
            if is_full:
                self._queue.popleft()
                self._lost += 1
            self._queue.append(result)
            self._state.notify()
        if is_full and not self._has_told_loss:
            self._has_told_loss = True
            self._warn(f"{self._room} results that wait", "the oldest of them are lost")

    def close(self) -> None:
        """Wait a while for what is queued, then say how many results were lost."""
        with self._state:
            if self._is_closing:
                return
            self._is_closing = True
            self._state.notify()
        self._hurry.set()
        end_s = self._clock() + self._closing_s
        self._thread.join(self._closing_s)
        with self._state:
            self._is_over = True
            self._lost += len(self._queue) + self._is_underway
            self._queue.clear()
        self._hurry.set()
        self._lost += self._carrier.settle(max(end_s - self._clock(), 0.0))
        self._carrier.close()
        if self._lost:
            count = "1 result was" if self._lost == 1 else f"{self._lost} results were"
            self._say(f"srd-edge: {count} not delivered to {self.name}")

    def _work(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._queue or self._is_closing)
                if not self._queue:
                    return
                result = self._queue.popleft()
                self._is_underway = True
            refused = self._try(result)
            with self._state:
                if self._is_over:
                    return  # it was counted as lost
                self._is_underway = False
                self._lost += refused is not None
            if refused is not None:
                self._tell_trouble(refused, "captioning goes on, and what is refused is lost")

    def _try(self, result: Result) -> str | None:
        """Deliver a result, however often it takes; why it was refused, or None."""
        delay_s = _FIRST_DELAY_S
        while not self._is_over:
            try:
                return self._carrier.deliver(result)
            except OSError as error:
                found = error.strerror or str(error) or type(error).__name__
                self._tell_trouble(found, f"captioning goes on, and {self._room} results can wait")
            except Exception as error:  # a carrier's mistake must not end the thread unheard
                return f"{type(error).__name__}: {' '.join(str(error).split())}"
            self._pause(self._hurry, delay_s)
            self._hurry.clear()
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
        return None

    def _tell_trouble(self, found: str, do: str) -> None:
        if not self._has_told_trouble:
            self._has_told_trouble = True
            self._warn(found, do)

    def _warn(self, found: str, do: str) -> None:
        expected = f"{self.name} to take results"
        self._say(f"srd-edge: warning: {RunError(expected=expected, found=found, do=do)}")
