"""Captions by their deadline: a frame's own where it comes in time, or the last trusted one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from srd_edge.kernels.frames import Frame
from srd_edge.runtime.budget import HAND_OVER, FrameTimer
from srd_edge.runtime.memory import Memory
from srd_edge.runtime.records import Result
from srd_edge.runtime.workers import Worker


class OnTime:
    """Has a worker caption frames, and waits for it until their deadline and no longer.

    What comes late is trusted for the frames after it. Frames that come while it is still being
    made are held.

    Args:
        worker: makes the captions.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._begun: list[tuple[Frame, Memory]] = []

    def is_free(self, timer: FrameTimer) -> bool:
        """Whether frames can be begun in time; a caption that is late is waited for first."""
        if self._begun:
            with timer.stage("wait", learn=False):
                done = self.finish(timer.deadline_s)
            # What is handed over takes time, and a frame that is late already must not wait for it.
            return done and timer.fits(HAND_OVER)
        return True

    def results(
        self, frames: Mapping[int, Frame], memories: Sequence[Memory], timer: FrameTimer
    ) -> dict[int, Result]:
        """What is said of each: its own caption if it comes in time, or the last one.

        Args:
            frames: by source, to be captioned side by side; nothing is late before them.
            memories: of these sources.
            timer: of the frames.

        Returns:
            Results by source, without their times.
        """
        kept = self._worker.begin(list(frames.values()), timer)
        self._begun = list(zip(kept, memories, strict=True))
        results = self._collect(timer.deadline_s)
        if results is None:
            return held(frames, memories, timer, "caption")
        told = {}
        for source, memory, result in zip(frames, memories, results, strict=True):
            if result.verdict == "held":
                told[source] = memory.hold(result)
            else:
                memory.trust(result)
                told[source] = result
        return told

    def finish(self, until_s: float = float("inf")) -> bool:
        """Whether no caption is late any more; one that has come is for the frames after it."""
        begun = self._begun
        late = self._collect(until_s) if begun else []
        for (frame, memory), result in zip(begun, late or (), strict=False):
            if result.verdict != "held":
                memory.trust(result)
            memory.stand(result, frame)
        return late is not None

    def _collect(self, until_s: float) -> list[Result] | None:
        """Results of the frames that were begun; None where they have not come by ``until_s``."""
        try:
            results = self._worker.wait(until_s)
        except Exception:
            self._begun = []
            raise
        if results is not None:
            self._begun = []
        return results


def held(
    frames: Mapping[int, Frame], memories: Sequence[Memory], timer: FrameTimer, given_up: str
) -> dict[int, Result]:
    """Frames that nothing is known of in time, each with the last trusted caption of its source."""
    results = {}
    for (source, frame), memory in zip(frames.items(), memories, strict=True):
        result = Result(
            frame=frame.index,
            time_s=frame.time_s,
            caption=None,
            verdict="held",
            suspicion=None,
            stage_ms=dict(timer.stage_ms),
            degraded=(given_up,),
        )
        results[source] = memory.hold(result)
    return results
