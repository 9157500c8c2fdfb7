"""A process that captions for another: what the two say to each other, and the process itself.

Python lets one thread at a time compute. A thread that has lost its core while it holds that right
holds up every other, those too that only want to say that a frame is late. So what must be on time
and what takes time are processes of their own: this one has the models. It is told in messages
where pictures lie in memory that both have, and answers with results. Every message goes with its
number, and so does the answer to it.
"""

from __future__ import annotations

import math
import mmap
import os
import pickle
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import numpy as np

from srd_edge.errors import RunError, SrdEdgeError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.budget import FrameTimer, LatencyBudget
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.pipeline import Choices, Pipeline
from srd_edge.runtime.records import Result


@dataclass(frozen=True, slots=True)
class Opening:
    """The first message: what is to be opened.

    Args:
        bundle: which the other side has verified.
        budget_ms: for a frame.
        choices: how the bundle is used.
    """

    bundle: Bundle
    budget_ms: float
    choices: Choices


@dataclass(frozen=True, slots=True)
class Opened:
    """The answer to it; see ``Pipeline``."""

    provider: str
    fallback: str | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame whose pixels lie in the common memory, one frame after the other."""

    index: int
    time_s: float
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """Frames to be captioned side by side.

    Args:
        frames: where they lie.
        start_s: when the time of these frames began, on ``time.perf_counter``, which is the
            system's monotonic clock in every process; None to be told what the undefended model
            says of the first.
        spare_s: as for ``FrameTimer``.
    """

    frames: tuple[Shown, ...]
    start_s: float | None
    spare_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Told:
    """Results of the frames that were asked for.

    Args:
        results: in the order of the frames.
        done_s: when they were there, on the same clock.
    """

    results: list[Result]
    done_s: float


Answer: TypeAlias = Opened | Told | str | BaseException


def frames_in(memory: mmap.mmap, shown: Sequence[Shown]) -> list[Frame]:
    """Frames whose pixels are views of the common memory."""
    frames, start = [], 0
    for one in shown:
        size = math.prod(one.shape)
        pixels = np.frombuffer(memory, np.uint8, size, start).reshape(one.shape)
        frames.append(Frame(pixels, one.index, one.time_s))
        start += size
    return frames


def serve(connection: int, memory: int) -> None:
    """Answer every question, the first of which names what is opened, until nobody asks any more.

    Args:
        connection: file descriptor of a socket whose other end asks.
        memory: file descriptor of the common memory, which grows as frames do.
    """
    asking: Connection[Any, Any] = Connection(connection)
    served = _Served(memory)
    with suppress(OSError):  # not permitted everywhere
        # To be woken with a frame must not cost whoever sent it the core that it goes on with.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with suppress(EOFError, ConnectionError):
        while True:
            number, message = asking.recv()
            asking.send((number, _answered(served, message)))


class _Served:
    """The models, once they are opened, and the memory as it is mapped now."""

    _budget: LatencyBudget
    _pipeline: Pipeline

    def __init__(self, memory: int) -> None:
        self._file, self._size = memory, 0
        self._memory: mmap.mmap | None = None

    def open(self, opening: Opening) -> Opened:
        self._budget = LatencyBudget(opening.budget_ms)
        self._pipeline = Pipeline(opening.bundle, opening.choices)
        return Opened(self._pipeline.provider, self._pipeline.fallback)

    def answer(self, asked: Asked) -> Answer:
        frames = frames_in(self._mapped(), asked.frames)
        if asked.start_s is None:
            return self._pipeline.undefended(frames[0])
        timer = FrameTimer(
            self._budget,
            self._pipeline.costs(len(frames)),
            start_s=asked.start_s,
            spare_s=asked.spare_s,
            runs_over=True,
        )
        results = self._pipeline.captions(frames, timer)
        return Told(results, time.perf_counter())

    def _mapped(self) -> mmap.mmap:
        size = os.fstat(self._file).st_size
        if self._memory is None or size != self._size:
            self._memory, self._size = mmap.mmap(self._file, size), size
        return self._memory


def _answered(served: _Served, message: Opening | Asked) -> Answer:
    try:
        if isinstance(message, Opening):
            return served.open(message)
        return served.answer(message)
    except Exception as error:
        return _tellable(error)


def _tellable(error: Exception) -> Exception:
    """The error, or one that can be sent in its place."""
    if isinstance(error, SrdEdgeError):
        return error
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RunError(
            expected="a caption",
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            do="caption without a budget, to see where it comes from",
        )
    return error
