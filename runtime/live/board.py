"""What the live page shows, kept while results come in and told to whoever asks.

The thread that captions adds results, the server's thread asks. Everything that changes has a
number that rises; a viewer says the last that it has seen and is told what is newer, and of
pictures the newest only. So it does not matter how fast a viewer is, or how many there are.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.runtime.budget import Clock
from srd_edge.runtime.live.faring import Faring
from srd_edge.runtime.live.pictures import thumbnail
from srd_edge.runtime.reasons import done_to, standing
from srd_edge.runtime.records import Result, Verdict

WINDOW_FRAMES: Final = 300
"""How many frames the plots show, and their percentiles are taken over."""
EVENTS: Final = 60
"""How many stretches of frames that were suspicious or held are kept."""

State: TypeAlias = Literal["waiting", "running", "ended"]

_PERCENTILES: Final = (50, 95, 99)
_RATE_FRAMES: Final = 60
_MORE_SUSPICIOUS: Final = 0.05
"""A frame stands for its stretch in the place of another that is less suspicious by that."""


@dataclass(frozen=True, slots=True)
class About:
    """What is the same for a whole run.

    Args:
        source: its name, without a password.
        live: whether frames come as they happen.
        frames: how many are expected; None if nobody knows.
        fps: frames of the source a second, if it has a rate.
        budget_ms: of a frame; None without a budget.
        defended: whether there is a defence.
        compared: whether there are raw captions.
        provider: where the graphs run.
    """

    source: str
    live: bool = False
    frames: int | None = None
    fps: float | None = None
    budget_ms: float | None = None
    defended: bool = True
    compared: bool = False
    provider: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object for the page."""
        return {
            "source": self.source,
            "live": self.live,
            "frames": self.frames,
            "fps": self.fps,
            "budget_ms": self.budget_ms,
            "defended": self.defended,
            "compared": self.compared,
            "provider": self.provider,
            "window": WINDOW_FRAMES,
            "events": EVENTS,
        }


@dataclass(slots=True)
class _Event:
    """A stretch of neighbouring frames of one source that were suspicious, or held."""

    number: int
    changed: int
    verdict: Verdict
    shown: Result
    words: Mapping[str, str]
    picture: Pixels
    first: int
    last: int
    frames: int = 1
    is_open: bool = True

    def to_json(self) -> dict[str, Any]:
        shown = self.shown.to_json()
        kept = ("frame", "time_s", "caption", "raw_caption", "suspicion", "source")
        return {
            "number": self.number,
            "verdict": self.verdict,
            "first": self.first,
            "last": self.last,
            "frames": self.frames,
            **{key: shown[key] for key in kept if key in shown},
            **self.words,
        }


@dataclass(frozen=True, slots=True)
class _Point:
    """A frame in the plots."""

    changed: int
    frame: int
    ms: float
    verdict: Verdict
    suspicion: float | None
    stage_ms: Mapping[str, float]

    def to_json(self) -> list[Any]:
        suspicion = None if self.suspicion is None else round(self.suspicion, 4)
        return [self.frame, self.ms, self.verdict, suspicion]


class Board:
    """The state of one run's page.

    Args:
        about: the run.
        faring: asked, on any thread, when somebody looks.
        clock: seconds, for the rate of frames and how long ago the last one was.
    """

    def __init__(
        self,
        about: About,
        faring: Callable[[], Faring] = Faring,
        clock: Clock = time.monotonic,
    ) -> None:
        self.about = about
        self._faring, self._fared = faring, Faring().news
        self.on_change: Callable[[], object] = lambda: None
        self._clock, self._lock = clock, threading.Lock()
        self._run = secrets.token_hex(4)
        self._changed = 0
        self._state: State = "waiting"
        self._since_s = clock()
        self._counts: Counter[str] = Counter()
        self._points: deque[_Point] = deque(maxlen=WINDOW_FRAMES)
        self._events: deque[_Event] = deque(maxlen=EVENTS)
        self._event_count = 0
        self._arrivals_s: deque[float] = deque(maxlen=_RATE_FRAMES)
        self._newest: tuple[Frame, Result] | None = None

    def add(self, frame: Frame, result: Result) -> None:
        """Show ``result``; ``frame`` as it came."""
        with self._lock:
            self._changed += 1
            self._state = "running"
            self._since_s = self._clock()
            self._arrivals_s.append(self._since_s)
            self._count(result)
            self._points.append(
                _Point(
                    self._changed,
                    result.frame,
                    round(result.total_ms, 3),
                    result.verdict,
                    result.suspicion,
                    result.stage_ms,
                )
            )
            self._note(frame, result)
            self._newest = frame, result
        self.on_change()

    def end(self) -> None:
        """Say that no more frames come."""
        with self._lock:
            self._changed += 1
            self._state = "ended"
        self.on_change()

    def look(self) -> None:
        """See how sources and sinks fare: they tell nobody when that changes."""
        fares = self._faring().news
        with self._lock:
            if fares != self._fared:
                self._changed += 1
                self._fared = fares

    def was_seen(self, run: str, seen: int) -> bool:
        """Whether there is nothing newer than ``seen`` of this run."""
        return run == self._run and seen >= self._changed

    def thumbnail(self, number: int) -> Pixels | None:
        """The picture of an event, (H, W, 3) uint8 RGB; None if it is no longer kept."""
        with self._lock:
            return next((e.picture for e in self._events if e.number == number), None)

    def since(self, run: str, seen: int) -> tuple[dict[str, Any], tuple[Frame, Result] | None]:
        """What is newer than ``seen``; all, for a viewer of another run.

        Returns:
            A JSON object, and the newest frame with its result where there is a newer one.
        """
        seen = seen if run == self._run else -1
        with self._lock:
            points, newest = list(self._points), self._newest
            answer: dict[str, Any] = {
                "run": self._run,
                "changed": self._changed,
                "state": self._state,
                "age_s": round(self._clock() - self._since_s, 3),
                "rate": self._rate(),
                "counts": dict(self._counts),
                "events": [event.to_json() for event in self._events if event.changed > seen],
            }
        # What takes longer is done when the thread that captions may go on.
        answer["times_ms"], answer["stages_ms"] = _times_ms(points), _stages_ms(points)
        answer["faring"] = self._faring().to_json()
        answer["points"] = [point.to_json() for point in points if point.changed > seen]
        if seen < 0:
            answer["about"] = self.about.to_json()
        if newest is None or answer["changed"] <= seen:
            return answer, None
        answer["result"] = newest[1].to_json() | _words(*newest)
        return answer, newest

    def _count(self, result: Result) -> None:
        self._counts["frames"] += 1
        self._counts[result.verdict] += 1
        self._counts["late"] += result.within_budget is False
        if result.raw_caption is not None:
            self._counts["compared"] += 1
            self._counts["changed"] += result.raw_caption != result.caption

    def _note(self, frame: Frame, result: Result) -> None:
        """Go on with the stretch of the result's source, begin one, or end it."""
        own = (event for event in reversed(self._events) if event.shown.source == result.source)
        last = next(own, None)
        if last is not None and last.is_open and last.verdict == result.verdict:
            last.changed, last.last, last.frames = self._changed, result.frame, last.frames + 1
            if (result.suspicion or 0.0) > (last.shown.suspicion or 0.0) + _MORE_SUSPICIOUS:
                last.shown, last.words = result, _words(frame, result)
                last.picture = thumbnail(frame, result)
            return
        if last is not None:
            last.is_open = False
        if result.verdict in ("clean", "undefended"):
            return
        self._event_count += 1
        self._events.append(
            _Event(
                number=self._event_count,
                changed=self._changed,
                verdict=result.verdict,
                shown=result,
                words=_words(frame, result),
                picture=thumbnail(frame, result),
                first=result.frame,
                last=result.frame,
            )
        )

    def _rate(self) -> float | None:
        """Frames a second of late; None where there is none to speak of."""
        arrivals = self._arrivals_s
        if self._state != "running" or len(arrivals) < 2 or arrivals[-1] == arrivals[0]:
            return None
        return round((len(arrivals) - 1) / (arrivals[-1] - arrivals[0]), 2)


def _times_ms(points: Sequence[_Point]) -> dict[str, float]:
    if not points:
        return {}
    ranks = np.percentile([point.ms for point in points], _PERCENTILES)
    return {f"p{name}": round(float(ms), 3) for name, ms in zip(_PERCENTILES, ranks, strict=True)}


def _stages_ms(points: Sequence[_Point]) -> dict[str, float]:
    """Mean milliseconds by stage over all of ``points``: they add up to a frame's."""
    sums: dict[str, float] = {}
    for point in points:
        for stage, ms in point.stage_ms.items():
            sums[stage] = sums.get(stage, 0.0) + ms
    return {stage: round(ms / len(points), 3) for stage, ms in sums.items()}


def _words(frame: Frame, result: Result) -> dict[str, str]:
    return {"done": done_to(frame.pixels, result), "standing": standing(result)}
